"""A table of accuracies that fits a page: what answers the question first, the rest elsewhere."""

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.reports.run.tables import Column, Table
from robustbench_coded.schema.controls import CLEAN, ENSEMBLE, RANDOM_SIGN

WIDTH = 9  # columns of accuracies


def narrowed(table: Table) -> Table:
    """Clean inputs beside the ensembles, then random signs, the paper's attacks and the strongest ones."""
    ranks = {column: _rank(table, column) for column in table.columns}
    kept = sorted(ranks, key=lambda column: ranks[column])[:WIDTH]
    kept = [column for column in kept if ranks[column] <= _LAST]
    return table.of_columns([table.columns.index(column) for column in kept])


_LAST = 4  # the rank of the strongest attacks; others are left out


def _rank(table: Table, column: Column) -> int:
    if column.attack == CLEAN:
        return 0
    if column.attack == ENSEMBLE:
        return 1
    if column.attack == RANDOM_SIGN:
        return 2
    if papers_attack(column.attack) is not None and column.threat.whole_batch:
        return 3
    cells = [row.cells[table.columns.index(column)] for row in table.rows]
    return _LAST if any(cell is not None and cell.strongest for cell in cells) else _LAST + 1
