"""Outcomes of one attack's perturbed inputs in random partitions of the examples into batches.

    repartitioned(outcomes) -> {CaseKey: Repartitioned}     rows of purpose `partition`

What they bound is said in docs/numbers.md, 'More batches'; `partitions.py` counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_coded.schema.case import KEY_COLUMNS, CaseKey
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.outcomes import Cell, case_keys
from robustbench_coded.statistics.partitions import partition_difference_high, partition_interval

PARTITION = "partition"  # the purpose of these outcomes; their draw is the number of the partition


@dataclass(frozen=True)
class Repartitioned:
    """Answers to one attack's inputs in P random partitions, one draw of the defence in each."""

    example: NDArray[np.int64]  # [examples], increasing
    batch: NDArray[np.int64]  # [examples, P]
    correct: NDArray[np.bool_]  # [examples, P]

    def interval(self, tail: float) -> tuple[float, float]:
        """For the accuracy under this attack, each end erring with probability ``tail``."""
        return partition_interval(self.correct, self.batch, tail)

    def above_base_high(self, base: NDArray[np.bool_], tail: float) -> float:
        """Upper end for that accuracy less a base model's, whose answers ``base`` [examples] are."""
        return partition_difference_high(self.correct, self.batch, base, tail)


@dataclass(frozen=True)
class Beside:
    """What random partitions say about a row.

    Attributes:
        cell: the row's outcomes that it is about.
        own: of the row's own attack; None where that was not scored so.
        playable: of attacks that the attacker whom the row combines could always play instead.
    """

    cell: Cell
    own: Repartitioned | None = None
    playable: tuple[Repartitioned, ...] = ()

    def interval(self, alone: Callable[[float], Interval], tail: float) -> Interval:
        """The row's interval; ``alone`` gives the one without partitions by its tail.

        An attacker who may always play one attack leaves at most what that attack leaves: the upper end is
        the lowest of his own and of those attacks', each of which errs at its share of the tail.
        """
        row = alone(tail)
        if self.own is not None:
            low, high = self.own.interval(tail)
            return replace(row, low=min(low, row.estimate), high=max(high, row.estimate))
        share = tail / (1 + len(self.playable))
        ends = [alone(share).high, *(one.interval(share)[1] for one in self.playable)]
        return replace(row, high=max(min(ends), row.estimate))

    def difference_high(
        self, alone: Callable[[float], float], base: NDArray[np.bool_], estimate: float, tail: float
    ) -> float:
        """The same for the upper end of the difference to a base model with answers ``base`` [examples]."""
        share = tail / (1 + len(self.playable))
        ends = [alone(share), *(one.above_base_high(base, share) for one in self.playable)]
        return max(min(ends), estimate)


def beside(cell: Cell | None, own: Repartitioned | None, playable: list[Repartitioned]) -> Beside | None:
    """Those of the outcomes that are about the examples of ``cell``; None where there are none."""
    if cell is None:
        return None
    fits = [one for one in playable if np.array_equal(one.example, cell.example)]
    if own is not None and not np.array_equal(own.example, cell.example):
        own = None
    return Beside(cell, own, tuple(fits)) if fits or own is not None else None


def repartitioned(outcomes: pd.DataFrame) -> dict[CaseKey, Repartitioned]:
    """By case; of a case that has some partitions for some examples only, the examples that have all."""
    rows = outcomes[(outcomes["purpose"] == PARTITION).to_numpy(dtype=bool)]
    found = {}
    for _, part in rows.groupby(list(KEY_COLUMNS), dropna=False, observed=True):
        tables = [
            part.assign(right=part["prediction"] == part["label"]).pivot(
                index="example", columns="draw", values=values
            )
            for values in ("batch", "right")
        ]
        whole = tables[0].notna().all(axis=1).to_numpy()
        batch, right = (table.to_numpy()[whole] for table in tables)
        if batch.shape[0] and batch.shape[1] > 1:
            found[case_keys(part.iloc[:1])[0]] = Repartitioned(
                tables[0].index.to_numpy()[whole].astype(np.int64),
                batch.astype(np.int64),
                right.astype(bool),
            )
    return found
