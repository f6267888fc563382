import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from robustbench_coded.reports.render.sentence import Sentence, wrapped

TEXT = "RCI keeps 0.0% [0.0, 0.6], a gain of +7.6 [+2.5, +12.6] over 26.6 [17.2, 37.2] (+1.2 to +7.4): [bold]"
INTERVALS = ("0.0% [0.0, 0.6]", "+7.6 [+2.5, +12.6]", "26.6 [17.2, 37.2]", "(+1.2 to +7.4):")


@pytest.mark.parametrize("width", range(20, 110))
def test_a_figure_and_its_interval_are_on_one_line(width):
    lines = wrapped(TEXT, width)
    assert " ".join(lines) == TEXT
    assert max(map(len, lines)) <= width
    assert all(any(interval in line for line in lines) for interval in INTERVALS)


@given(st.text("ab [1,]9.-", max_size=60), st.integers(4, 30))
def test_nothing_is_lost_and_no_line_is_too_long(text, width):
    lines = wrapped(text, width)
    assert max(map(len, lines), default=0) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text("ab 全", max_size=60), st.integers(4, 30))
def test_wide_characters_stay_within_a_console(text, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(Sentence(text))
    shown = console.file.getvalue()
    assert max(map(cell_len, shown.splitlines()), default=0) <= width
    assert "".join(shown.split()) == "".join(text.split())


def test_a_console_prints_the_lines_as_they_are():
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    console.print(Sentence(TEXT))
    assert console.file.getvalue().splitlines() == wrapped(TEXT, 40)
