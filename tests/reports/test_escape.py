"""Names in documents, read back by independent readers of each format."""

import csv
import io
import shlex
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from robustbench_coded.reports.text import escape

NAMES = (
    "plain-name.1",
    "<script>alert(1)</script>",
    "a|b",
    "a\nb\r\tc",
    "\x1b[31mred\x07",
    "[t](https://e.org) https://e.org www.e.org a@e.org",
    "`code` ``two`` **b** __i__ ~~s~~ \\ $m$ &amp; &#124;",
    "\u202egnp.exe",
    "=1+1",
    "  =1+1",
    "{{x}} {%y%}",
    "日本 é",
)


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_the_name_and_nothing_else(name):
    reader = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    text = f"| head | b |\n| :-- | --: |\n| {escape.markdown(name)} | 1 |\n"
    tokens = reader.parse(text)
    cells = [
        token for before, token in pairwise(tokens) if token.type == "inline" and before.type == "td_open"
    ]
    assert len(cells) == 2
    kinds = {child.type for child in cells[0].children or []}
    assert kinds <= {"text", "text_special"}
    shown = "".join(child.content for child in cells[0].children or [])
    assert " ".join(shown.split()) == " ".join(escape.one_line(name).split())
    # GitHub makes links of bare addresses before it reads entities.
    assert "://" not in escape.markdown(name)
    assert "www." not in escape.markdown(name)


@pytest.mark.parametrize("name", NAMES)
def test_one_line_is_printable_and_keeps_printable_text(name):
    line = escape.one_line(name)
    assert line.isprintable()
    if name.isprintable():
        assert line == name


@pytest.mark.parametrize("name", NAMES)
def test_csv_fields_never_start_a_formula(name):
    file = io.StringIO()
    csv.writer(file).writerow([escape.csv_text(name), "next"])
    rows = list(csv.reader(io.StringIO(file.getvalue())))
    assert len(rows) == 1
    assert rows[0][1] == "next"
    assert rows[0][0].lstrip()[:1] not in ("=", "+", "-", "@")
    assert rows[0][0].removeprefix("'") == escape.one_line(name)


def test_latex_escapes_every_active_character():
    escaped = escape.latex(r"\input{x} $5% & #_^~ [a] <b> | -- 日", 100)
    for active in ("$", "%", "&", "#", "_"):
        assert f"\\{active}" in escaped
        assert active not in escaped.replace(f"\\{active}", "")
    assert r"\input" not in escaped
    assert "--" not in escaped
    assert not escaped.startswith("[")
    assert "U+65E5" in escaped


@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
def test_a_block_of_code_can_not_be_left(fence):
    tokens = MarkdownIt("commonmark").parse(escape.markdown_block(f"a {fence} b\n{fence}\n# title"))
    assert [token.type for token in tokens] == ["fence"]


@pytest.mark.parametrize(
    "argument", ["plain", "two words", "it's", "a\nb", "\x1b[0m", "$HOME `x`", "é\n日", "\udcff"]
)
def test_a_shell_reads_back_the_arguments(argument):
    import os
    import subprocess

    line = escape.shell(["printf", "%s", argument])
    assert "\n" not in line
    if argument.isprintable():
        assert shlex.split(line) == ["printf", "%s", argument]
    out = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert out == os.fsencode(argument)


def test_shortened_keeps_both_ends():
    assert escape.shortened("abcdefghij", 10) == "abcdefghij"
    short = escape.shortened("abcdefghijk", 10)
    assert len(short) == 10
    assert short[0] == "a"
    assert short[-1] == "k"
