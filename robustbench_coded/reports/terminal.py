"""The tables of a run at a terminal: wide where there is room, one attack a line where there is not."""

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from robustbench_coded.reports.escape import one_line, shortened
from robustbench_coded.reports.load import Run
from robustbench_coded.reports.tables import Cell, Column, Table, TableRow, tables_of
from robustbench_coded.reports.words import interval, percent

NAME_WIDTH = 60


def summary_table(run: Run) -> Group:
    """Table 3 (and Table 10) of a run, the strongest attacks in bold; names are never read as markup."""
    return Group(*(_Fitting(table) for table in tables_of(run)))


class _Fitting:
    """A table that takes the form for which there is room."""

    def __init__(self, table: Table):
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table
        forms = (_wide(table, True), _tall(table, True), _wide(table, False), _tall(table, False))
        for form in forms:
            if console.measure(form, options=options.update(max_width=10_000)).maximum <= options.max_width:
                yield form
                return
        yield _narrow(table)


def _wide(table: Table, with_interval: bool) -> Grid:
    """A column per attack."""
    grid = Grid(title=Text(one_line(table.title)), title_justify="left")
    for name in _names(table):
        grid.add_column(name, overflow="fold")
    for column in table.columns:
        grid.add_column(_head(column, "\n"), justify="right", no_wrap=True)
    for row in table.rows:
        labels = _labels(table, row)
        grid.add_row(*labels, *(_cell(cell, "\n" if with_interval else None) for cell in row.cells))
    return grid


def _tall(table: Table, with_interval: bool) -> Grid:
    """A line per attack, a column per subject."""
    grid = Grid(title=Text(one_line(table.title)), title_justify="left")
    grid.add_column("attack", no_wrap=True)
    for row in table.rows:
        grid.add_column(Text("\n".join(label.plain for label in _labels(table, row))), justify="right")
    for i, column in enumerate(table.columns):
        cells = [row.cells[i] for row in table.rows]
        grid.add_row(_head(column, " "), *(_cell(cell, " " if with_interval else None) for cell in cells))
    return grid


def _narrow(table: Table) -> Group:
    """A line per attack, a block per subject."""
    parts: list[Text | Grid] = [Text(one_line(table.title), style="bold")]
    for row in table.rows:
        grid = Grid(
            title=Text(", ".join(label.plain for label in _labels(table, row))),
            title_justify="left",
            show_header=False,
        )
        grid.add_column(overflow="fold")
        grid.add_column(justify="right", overflow="fold")
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is not None:
                grid.add_row(_head(column, " "), _cell(cell, " "))
        parts.append(grid)
    return Group(*parts)


def _names(table: Table) -> tuple[str, str]:
    return ("K", "N") if table.one_inference else ("inference", "checkpoint")


def _labels(table: Table, row: TableRow) -> list[Text]:
    if table.one_inference:
        return [Text(f"K={row.subject.k}"), Text(f"N={row.subject.n}")]
    return [Text(shortened(row.inference, NAME_WIDTH)), Text(shortened(row.subject.checkpoint, NAME_WIDTH))]


def _head(column: Column, between: str) -> Text:
    head = Text(shortened(column.attack, NAME_WIDTH))
    if column.attack not in ("clean", "random-sign"):
        head.append(f"{between}{one_line(column.threat)}", style="dim")
    return head


def _cell(cell: Cell | None, between: str | None) -> Text:
    """An accuracy, its interval after ``between`` (left out where None)."""
    if cell is None:
        return Text("")
    line = cell.line
    text = Text(percent(line.accuracy), style="bold" if cell.strongest else "")
    if between is not None and line.low is not None:
        text.append(f"{between}{interval(line.low, line.high)}", style="not bold dim")
    if not line.done:
        text.append(f"{between or ' '}{line.examples}/{line.examples_planned}", style="not bold yellow")
    return text
