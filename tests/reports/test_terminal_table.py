"""Tables at terminals of all widths."""

import io
import re

import pytest
from rich.console import Console

from robustbench_coded.reports.load import load_run
from robustbench_coded.reports.terminal import summary_table


def printed(path, width, *, color=False, **environment):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, _environ=environment, legacy_windows=False
    )
    console.print(summary_table(load_run(path)))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 250])
def test_no_line_is_wider_than_the_terminal_and_no_accuracy_is_lost(make_run, width):
    path = make_run()
    text = printed(path, width)
    assert max(len(line) for line in text.splitlines()) <= width
    summary = load_run(path).summary
    measured = summary[~summary.attack.isin(["strongest", "naive-min"])]
    for line in measured.itertuples():
        assert f"{100 * line.accuracy:.1f}" in text
        assert line.attack in text.replace("\n", "")


def test_the_strongest_is_bold(make_run):
    path = make_run(
        accuracies={("clean", "batch/unknown"): (0.9, 0.9), ("pgd-10", "batch/unknown"): (0.25, None)}
    )
    text = printed(path, 250, color=True, TERM="xterm-256color")
    summary = load_run(path).summary
    summary = summary[summary.defence == "standard"].set_index("attack")
    strong, clean = (f"{100 * summary.accuracy[attack]:.1f}" for attack in ("pgd-10", "clean"))
    assert re.search(rf"\x1b\[1m *{strong}\x1b\[0m", text)
    assert not re.search(rf"\x1b\[1m *{clean}", text)


def test_no_color_leaves_no_colour(make_run):
    text = printed(make_run(missing=[("fgsm", "rci")]), 250, color=True, TERM="xterm-256color", NO_COLOR="1")
    assert not any(f"\x1b[{code}" in text for code in ("3", "4", "9"))


@pytest.mark.parametrize("width", [50, 400])
def test_hostile_names_are_shown_and_do_nothing(hostile_run, width):
    text = printed(hostile_run, width)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "<script>" in text
    assert "[link]" in text.replace("\n", "") or width == 50  # never read as rich's own markup
    if width == 400:
        assert r"\x1b[31mred\x1b[0m\x07" in text


def test_incomplete_rows_say_so(make_run):
    text = printed(make_run(failed=[("pgd-10", "rci")]), 250)
    assert "0/128" in text
    assert "1 unit without outcomes" in text
