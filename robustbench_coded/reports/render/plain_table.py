"""Plain tables that fit a terminal, a pipe or a file of any width: no figure is cut or broken."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
NARROWEST = 8  # of a column of names
APART = 2  # characters between columns
RULED = Box("    \n    \n ─  \n    \n    \n    \n    \n    \n")  # a line under each title and nothing else


def _by_figure(text: str) -> str:
    return re.sub(r" (in \d|batches \d|\(\d)", r"\n\1", re.sub(r"(\]†?) ", r"\1\n", text))


# How a cell of several figures is set, the widest first: on a line, a line each, intervals on their own.
_WAYS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    _by_figure,
    lambda text: _by_figure(text).replace(" [", "\n["),
)


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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for place, columns in enumerate(_parts(self._table, options.max_width)):
            title = "(more columns of this table)" if place else self._title
            look: dict[str, Any] = {"box": RULED, "padding": (0, 0, 0, 1), "pad_edge": False}
            grid = Grid(title=Text(one_line(title)), title_justify="left", **look)
            for column, width in zip(columns, _widths(columns, options.max_width), strict=True):
                side: JustifyMethod = "right" if column.number else "left"
                grid.add_column(Text(column.head), overflow="fold", justify=side, width=width)
            for row in zip(*(column.texts for column in columns), strict=True):
                grid.add_row(*map(Text, row))
            yield grid


def _parts(table: TextTable, width: int) -> Iterator[list[_Column]]:
    """The whole table where it fits, else tables of as many columns of figures as fit."""
    figures = [place for place, head in enumerate(table.heads) if head in table.numbers]
    columns = _first_that_fits(table, _WAYS, width)
    if columns is not None or len(figures) < 2:
        yield columns or _columns(table, _WAYS[-1])
        return
    names = set(range(len(table.heads))).difference(figures)
    while figures:
        for count in range(len(figures), 0, -1):
            part = table.with_columns([i in names or i in figures[:count] for i in range(len(table.heads))])
            part = replace(part, rows=tuple(row for row in part.rows if _says(part, row)))
            columns = _first_that_fits(part, _WAYS[:1] if count > 1 else _WAYS, width)
            if columns is not None or count == 1:
                yield columns or _columns(part, _WAYS[-1])
                figures = figures[count:]
                break


def _says(table: TextTable, row: Sequence[str]) -> bool:
    return any(text for head, text in zip(table.heads, row, strict=True) if head in table.numbers)


def _first_that_fits(
    table: TextTable, ways: Sequence[Callable[[str], str]], width: int
) -> list[_Column] | None:
    for way in ways:
        columns = _columns(table, way)
        if sum(column.least for column in columns) <= _room(columns, width):
            return columns
    return None


def _columns(table: TextTable, way: Callable[[str], str]) -> list[_Column]:
    columns = []
    for place, head in enumerate(table.heads):
        texts, number = [shortened(row[place], NAME_WIDTH) for row in table.rows], head in table.numbers
        columns.append(_Column(shortened(head, NAME_WIDTH), [*map(way, texts)] if number else texts, number))
    return columns


def _room(columns: Sequence[_Column], width: int) -> int:
    """Characters of the columns alone."""
    return width - APART * len(columns)


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """A width for each column: at least what it needs, the rest to the narrowest that want more."""
    room, widths = _room(columns, width), [column.least for column in columns]
    while sum(widths) > room and max(widths) > 1:
        places = range(len(widths))
        names = [i for i in places if not columns[i].number and widths[i] > NARROWEST]
        widths[max(names or places, key=widths.__getitem__)] -= 1
    while sum(widths) < room:
        wanting = [i for i, column in enumerate(columns) if widths[i] < column.natural]
        if not wanting:
            break
        widths[min(wanting, key=widths.__getitem__)] += 1
    return widths
