"""The files of a report of a run whose names are as hostile as names can be."""

import csv
import io
import re
import warnings
from base64 import b64decode
from html.parser import HTMLParser

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from robustbench_coded.reports.render.html import _chip
from robustbench_coded.reports.text.escape import csv_text, one_line
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import read_manifest

pytestmark = pytest.mark.long

OURS = {
    "html", "head", "meta", "title", "link", "style", "script", "body", "main", "header", "section", "div",
    "h1", "h2", "p", "ul", "li", "dl", "dt", "dd", "pre", "code", "b", "small", "span", "details", "summary",
    "wbr", "br", "form", "label", "select", "option", "button", "output", "figure", "figcaption", "img",
    "table", "thead", "tbody", "tr", "th", "td", "svg", "line", "rect", "circle", "text",
}  # fmt: skip


class Page(HTMLParser):
    """Tags, attributes, and the texts of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self.cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cells.append(self.cell.strip())
            self.cell = None


@pytest.fixture(scope="module")
def page(hostile_run):
    return Page((hostile_run / "report.html").read_text())


@pytest.fixture(scope="module")
def names(hostile_run):
    return [checkpoint["name"] for checkpoint in read_manifest(hostile_run)["checkpoints"]]


def test_names_make_no_elements_and_no_handlers(page):
    assert set(page.tags) <= OURS
    assert page.tags.count("script") == 1
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] == "style"]


def test_the_page_asks_the_network_for_nothing(page, hostile_run):
    sources = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith("data:") for value in sources)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", (hostile_run / "report.html").read_text(), re.DOTALL)
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_name_is_shown_whole_in_html(page, names):
    for name in names:
        assert one_line(name) in page.cells


def test_html_and_markdown_hold_printable_characters_alone(hostile_run):
    for name in ("report.html", "report.md", "summary.csv"):
        text = (hostile_run / name).read_text()
        assert all(c.isprintable() or c == "\n" for c in text), name


def test_markdown_has_no_foreign_html_links_or_images(hostile_run):
    text = (hostile_run / "report.md").read_text()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    pieces = [child for token in tokens for child in (token.children or [])]
    assert not [piece for piece in pieces if piece.type in ("link_open", "image")]
    html = [p.content for p in pieces if p.type == "html_inline"]
    html += [token.content for token in tokens if token.type == "html_block"]
    kinds = set(re.findall(r"</?([a-z]+)", " ".join(html)))
    assert kinds <= {"sub", "br", "details", "summary"}


def test_markdown_tables_keep_their_shape(hostile_run):
    tokens = MarkdownIt("commonmark").enable("table").parse((hostile_run / "report.md").read_text())
    widths, rows = [], 0
    for token in tokens:
        if token.type == "table_open":
            widths = []
        if token.type == "tr_open":
            rows, count = rows + 1, 0
        if token.type in ("td_open", "th_open"):
            count += 1
        if token.type == "tr_close":
            widths.append(count)
        if token.type == "table_close":
            assert len(set(widths)) == 1
    assert rows > 12


def test_csv_has_a_line_a_row_and_no_formulas(hostile_run, names):
    text = (hostile_run / "summary.csv").read_text()
    summary = load_run(hostile_run).summary
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(summary) == text.count("\n") - 1
    for row, (_, line) in zip(rows, summary.iterrows(), strict=True):
        assert row["checkpoint"] == csv_text(line.checkpoint)
    assert {row["checkpoint"] for row in rows} == {csv_text(name) for name in names}
    assert not [
        f
        for row in rows
        for f in row.values()
        if f[:1] in ("=", "+", "@") or (f.startswith("-") and not _number(f))
    ]


def _number(text):
    try:
        return isinstance(float(text), float)
    except ValueError:
        return False


def test_the_failed_row_is_shown_as_failed(hostile_run):
    text = (hostile_run / "report.md").read_text()
    assert ": RuntimeError: &lt;b&gt;out of&lt;/b&gt; memory" in text
    assert "not settled: outcomes are missing" in text


def test_html_tables_equal_the_summary(page, hostile_run):
    summary = pd.read_csv(hostile_run / "summary.csv")
    shown = page.cells
    for value in summary.accuracy.dropna().unique()[:20]:
        assert any(cell.startswith(f"{100 * value:.1f}") for cell in shown)
    assert shown.count("incomplete") == (summary.status == "incomplete").sum()


def test_writing_again_gives_the_same_bytes(hostile_run):
    def contents():
        return {
            p.relative_to(hostile_run): p.read_bytes() for p in sorted(hostile_run.rglob("*")) if p.is_file()
        }

    before = contents()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a glyph that the font lacks is one
        write_reports(hostile_run)
    assert contents() == before
    assert not list(hostile_run.rglob("*.part"))


def test_the_page_begins_with_the_answer(hostile_run):
    text = (hostile_run / "report.html").read_text()
    asked, rows, next_command, others = (
        text.index(part) for part in ('class="verdict"', 'class="dot"', "Next step: ", 'id="others"')
    )
    assert asked < rows < next_command < others


def test_figures_are_svg_without_dates(hostile_run):
    page = (hostile_run / "report.html").read_text()
    svgs = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    assert svgs
    for svg in svgs:
        text = b64decode(svg).decode()
        assert text.startswith("<?xml")
        assert "<dc:date>" not in text
        assert "<script" not in text


def test_the_command_to_run_it_again_is_one_line_that_a_shell_reads_back(hostile_run):
    import os
    import subprocess

    command = read_manifest(hostile_run)["invocations"][0]["command"]
    text = (hostile_run / "report.md").read_text()
    block = re.findall(r"^(`{3,})\n(csrobust .*)\n\1$", text, re.MULTILINE)
    assert len(block) == 2  # the next step, and how it was made
    line = block[1][1].replace("csrobust", "printf '%s\\0'", 1)
    out = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert out.split(b"\0")[:-1] == [os.fsencode(argument) for argument in command[1:]]


def test_an_interval_in_a_cell_is_held_together_and_all_else_escaped():
    whole = '<span class="whole">[0, 2]</span>'
    assert _chip("1 <b> [0, 2]") == f"<span>1 &lt;b&gt; {whole}</span>"
    assert _chip("no gain: 1 [0, 2]") == f'<span class="chip no-gain">no gain</span><span> 1 {whole}</span>'
    assert _chip("mine[share=0.5,draws=2]+target=x") == "mine[share=0.5,<wbr>draws=2]+<wbr>target=<wbr>x"
    assert _chip("broken: [a") == '<span class="chip broken">broken</span> [a'
