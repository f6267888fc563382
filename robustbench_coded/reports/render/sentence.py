"""Sentences at a terminal, wrapped so that a figure and its interval stay on one line."""

import re
import textwrap

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from robustbench_coded.reports.text.escape import one_line

# A figure with its interval ("34.2% [26.7, 42.3]:"), an interval alone, "(+1.2 to +7.4)".
_UNBROKEN = re.compile(r"(?:[-+]?[\d.]+%? )?\[[-+\d.,% ]+\]|\(?[-+]?[\d.]+%? to [-+]?[\d.]+")
_KEPT = "\N{NO-BREAK SPACE}"


class Sentence:
    """A line of text without markup, wrapped at the width of the console.

    Args:
        text: one line.
    """

    def __init__(self, text: str):
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(wrapped(self.text, options.max_width)))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, broken at spaces, but not within a figure and its interval."""
    joined = _UNBROKEN.sub(lambda match: match[0].replace(" ", _KEPT), text)
    lines = textwrap.wrap(joined, width, break_on_hyphens=False)
    return [line.replace(_KEPT, " ") for line in lines]


def print_line(console: Console, text: str) -> None:
    """Wrapped at a terminal; elsewhere a line is a line, for grep."""
    line = one_line(text)
    if console.is_terminal:
        console.print(Sentence(line))
    else:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
