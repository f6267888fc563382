"""Sentences at a terminal."""

from rich.console import Console

from robustbench_coded.reports.render.sentence import Sentence
from robustbench_coded.reports.text.escape import one_line


def print_line(console: Console, text: str) -> None:
    """Wrapped at a terminal; elsewhere a line is a line, for grep."""
    line = one_line(text)
    if console.is_terminal:
        console.print(Sentence(line))
    else:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
