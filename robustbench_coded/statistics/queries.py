"""Accuracy against an attacker who may submit a perturbed input several times, with its interval."""

import numpy as np

from robustbench_coded.statistics.draws import accuracy_queries
from robustbench_coded.statistics.intervals import Interval, accuracy_interval
from robustbench_coded.statistics.outcomes import Cell


def queries_interval(cell: Cell, queries: int, *, batch_dependent: bool) -> Interval:
    """`accuracy_queries` and a 95% interval.

    The draws are cut into blocks of ``queries`` draws that share none. An example survives a block if it is
    right in all of its draws; the interval is that of these outcomes. The estimate uses all subsets of the
    draws, of which the blocks are some; the interval is widened to hold it.

    Raises:
        ValueError: fewer draws than queries.
    """
    estimate = accuracy_queries(cell, queries)
    blocks = cell.correct.shape[1] // queries
    tried = cell.correct[:, : blocks * queries].reshape(len(cell.correct), blocks, queries)
    found = accuracy_interval(np.asarray(tried.all(axis=2)), cell.batch, batch_dependent=batch_dependent)
    return Interval(estimate, min(found.low, estimate), max(found.high, estimate))
