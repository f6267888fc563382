"""The table of a run: one line per row, `summary.csv`.

    summarise(outcomes, planned, costs, queries=None) -> DataFrame
    summary_table(measured_rows(outcomes, planned), costs, queries=None) -> DataFrame

`costs` has the key columns, `forwards` and `backwards`: images through the network, summed over the units of
a row.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from robustbench_coded.statistics.case_results import Row, measured_rows
from robustbench_coded.statistics.draws import (
    accuracy,
    accuracy_every_draw,
    accuracy_majority,
    accuracy_queries,
)
from robustbench_coded.statistics.outcomes import KEYS, Cell, RowKey, row_keys

DIGITS = 6  # so that the file does not depend on the last bits of a sum


def summarise(
    outcomes: pd.DataFrame, planned: pd.DataFrame, costs: pd.DataFrame, queries: int | None = None
) -> pd.DataFrame:
    """Counts a run out.

    Args:
        outcomes: columns as in docs/architecture.md.
        planned: one row per planned attack, see `rows.py`.
        costs: one row per planned attack or unit: key columns, forwards, backwards.
        queries: tries of an attacker who may query again; adds the column accuracy_queries.

    Returns:
        One line per planned attack, clean inputs included, then `strongest`, `ensemble` and `naive-min` of
        its threat model. The columns of design section 7, then: the clean figures of the same examples and
        draws, `ci_high_batches` (where nothing is right in a batch-dependent defence: the bound if a batch
        counted as one outcome), `unit` of the interval, `strongest_attack` and `selection_draws`. Figures
        that do not exist yet are null.
    """
    return summary_table(measured_rows(outcomes, planned), costs, queries)


def summary_table(rows: Sequence[Row], costs: pd.DataFrame, queries: int | None = None) -> pd.DataFrame:
    """As `summarise`, for rows that are already measured."""
    spent: dict[RowKey, tuple[float, float]] = {}
    for key, forwards, backwards in zip(row_keys(costs), costs["forwards"], costs["backwards"]):
        before = spent.get(key, (0.0, 0.0))
        spent[key] = before[0] + forwards, before[1] + backwards
    table = pd.DataFrame([_line(row, spent, queries) for row in rows])
    return table.astype({name: "Int64" for name in ("k", "n", "selection_draws") if name in table})


def _line(row: Row, spent: dict[RowKey, tuple[float, float]], queries: int | None) -> dict[str, object]:
    interval = row.interval()
    examples = 0 if row.cell is None else len(row.cell.example)
    costs = [spent.get(key, (math.nan, math.nan)) for key in row.sources]
    line: dict[str, object] = {
        **dict(zip(KEYS, row.key)),
        "examples": examples,
        "examples_planned": row.examples_planned,
        "draws": 0 if row.cell is None else len(row.cell.draw),
        "accuracy": _rounded(interval.estimate if interval else None),
        "ci_low": _rounded(interval.low if interval else None),
        "ci_high": _rounded(interval.high if interval else None),
        "accuracy_majority": _figure(accuracy_majority, row.cell),
        "accuracy_every_draw": _figure(accuracy_every_draw, row.cell),
        "forwards_per_example": _rounded(sum(cost[0] for cost in costs) / examples if examples else None),
        "backwards_per_example": _rounded(sum(cost[1] for cost in costs) / examples if examples else None),
        "status": "done" if row.complete else "incomplete",
        "clean_accuracy": _figure(accuracy, row.clean),
        "clean_majority": _figure(accuracy_majority, row.clean),
        "clean_every_draw": _figure(accuracy_every_draw, row.clean),
        "ci_high_batches": _rounded(interval.high_batches if interval else None),
        "unit": "batch" if row.unit_is_batch else "example",
        "strongest_attack": row.strongest_attack,
        "selection_draws": row.selection_draws,
    }
    if queries is not None:
        line["accuracy_queries"] = _queried(row.cell, queries)
        line["clean_queries"] = _queried(row.clean, queries)
    return line


def _figure(count: Callable[[Cell], float], cell: Cell | None) -> float:
    return _rounded(None if cell is None else count(cell))


def _queried(cell: Cell | None, queries: int) -> float:
    # An attacker who knows the draw, or faces none, gains nothing from asking again; too few draws cannot
    # say.
    if cell is None or len(cell.draw) < queries:
        return math.nan
    return _rounded(accuracy_queries(cell, queries))


def _rounded(value: float | None) -> float:
    return math.nan if value is None else round(value, DIGITS)
