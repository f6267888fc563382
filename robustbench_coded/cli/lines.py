"""Sentences at a terminal."""

from rich.console import Console

from robustbench_coded.reports.text.escape import one_line


def print_line(console: Console, text: str) -> None:
    """Wrapped at a terminal; elsewhere a line is a line, for grep."""
    console.print(one_line(text), markup=False, highlight=False, soft_wrap=not console.is_terminal)
