"""Plain tables that fit a terminal, a pipe or a file of any width: no figure is cut or broken."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from robustbench_coded.reports.text.escape import one_line, shortened
from robustbench_coded.reports.text.formatting import TextTable

NAME_WIDTH = 60
HEAD_WORD = 20  # a longer word of a title may be broken
APART = 2  # characters between columns
RULED = Box("    \n    \n ─  \n    \n    \n    \n    \n    \n")  # a line under each title and nothing else


# Where a cell of several figures is broken, the least first: nowhere, between figures, at each interval too.
_BREAKS = ("(?!)", r"(?<=[]†]) | (?=in \d|n = |\(\d)", r"(?<=[]†]) | (?=in \d|n = |\(\d|\[)")


@dataclass(frozen=True)
class _Column:
    head: str
    texts: Sequence[str]
    number: bool

    @property
    def least(self) -> int:
        """The width that breaks no figure and no word."""
        words = [len(word) for text in self.texts for word in text.split("\n" if self.number else None)]
        head = max(map(cell_len, self.head.split()), default=0)
        return max([*words, min(head, HEAD_WORD) if self.number else head])

    @property
    def natural(self) -> int:
        """The width of its longest line."""
        return max(cell_len(line) for text in (self.head, *self.texts) for line in text.split("\n"))


class PlainTable:
    """A table of text; names are never read as markup.

    Columns of figures for which the width has no room stand in further tables below, each with the names
    in front. Only a single column that is wider than the whole terminal is broken.
    """

    def __init__(self, title: str, table: TextTable):
        self._title, self._table = title, table

    def fits(self, width: int) -> bool:
        """True if it stands in one table of so many characters, without a broken word."""
        columns = _columns(self._table, _BREAKS[-1])
        return sum(column.least + APART for column in columns) + APART <= width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for place, columns in enumerate(_parts(self._table, options.max_width)):
            title = "(more columns of this table)" if place else self._title
            look: dict[str, Any] = {"box": RULED, "padding": (0, 0, 0, 1), "pad_edge": False}
            grid = Grid(title=Text(one_line(title)), title_justify="left", **look)
            wide = sum(column.natural + APART for column in columns) <= options.max_width
            for column in columns:  # names get what figures leave
                side: JustifyMethod = "right" if column.number else "left"
                width = column.least if column.number and not wide else None
                grid.add_column(Text(column.head), overflow="fold", justify=side, width=width)
            for row in zip(*(column.texts for column in columns), strict=True):
                grid.add_row(*map(Text, row))
            yield grid


def _parts(table: TextTable, width: int) -> Iterator[list[_Column]]:
    """The whole table where it fits, else tables of as many columns of figures as fit."""
    places = range(len(table.heads))
    figures = [place for place in places if table.heads[place] in table.numbers]
    for count in range(max(len(figures), 1), 0, -1):
        part = table.with_columns([place not in figures[count:] for place in places])
        several = 1 < count < len(figures)  # in fewer columns, intervals stay beside their figures
        for breaks in _BREAKS[:1] if several else _BREAKS:
            columns = _columns(part, breaks)
            last = count == 1 and breaks == _BREAKS[-1]
            if last or sum(column.least + APART for column in columns) <= width:
                yield columns
                if rest := figures[count:]:
                    left = table.with_columns([place not in figures or place in rest for place in places])
                    yield from _parts(left, width)
                return


def _columns(table: TextTable, breaks: str) -> list[_Column]:
    """Columns as they are shown; rows without any figure are left out where others have one."""
    columns = []
    said = [i for i, head in enumerate(table.heads) if head in table.numbers]
    rows = [row for row in table.rows if not said or any(row[i] for i in said)]
    for place, head in enumerate(table.heads):
        texts, number = [shortened(row[place], NAME_WIDTH) for row in rows], head in table.numbers
        shown = [re.sub(breaks, "\n", text) for text in texts] if number else texts
        columns.append(_Column(shortened(head, NAME_WIDTH), shown, number))
    return columns
