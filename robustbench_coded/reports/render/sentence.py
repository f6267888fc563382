"""Sentences at a terminal, wrapped so that a figure and its interval stay on one line."""

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from robustbench_coded.reports.text.escape import one_line

# A figure with its interval ("34.2% [26.7, 42.3]:"), an interval alone, "(+1.2 to +7.4)", or a word.
_UNBROKEN = re.compile(r"(?:[-+]?[\d.]+%? )?\[[-+\d.,% ]+\]\S*|\(?[-+]?[\d.]+%? to [-+]?[\d.]+\S*|\S+")
_INDENT = re.compile(r"^ *")


class Sentence:
    """A line of text without markup, wrapped at the width of the console.

    Args:
        text: one line.
    """

    def __init__(self, text: str):
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(wrapped(self.text, options.max_width)), no_wrap=True, overflow="ignore")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max((cell_len(part) for part in _UNBROKEN.findall(self.text)), default=0)
        return Measurement(longest, cell_len(self.text)).with_maximum(options.max_width)


def wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most ``width`` cells, broken at spaces, but not within a figure and its interval.

    A word that is wider than a line is cut, as the console itself would.
    """
    line = _INDENT.findall(text)[0]
    begun = False
    for part in _UNBROKEN.findall(text):
        if begun and cell_len(line) + 1 + cell_len(part) > width:
            yield line
            line, begun = "", False
        line, begun = f"{line} {part}" if begun else f"{line}{part}", True
        if cell_len(line) > width:
            *full, line = chop_cells(line, width)
            yield from full
    yield line


def print_line(console: Console, text: str) -> None:
    """Wrapped at a terminal; elsewhere a line is a line, for grep."""
    line = one_line(text)
    if console.is_terminal:
        console.print(Sentence(line))
    else:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
