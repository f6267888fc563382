"""Outcomes of one attack's perturbed inputs in other batches than those they were attacked in.

    repartitioned(outcomes) -> {CaseKey: Repartitioned or InRandomBatches}     rows of purpose `partition`

Whole batches were scored in random partitions of the examples, victims in random batches. What they bound
is said in docs/numbers.md, 'More batches'; `partitions.py` and `random_batches.py` count.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_coded.schema.case import KEY_COLUMNS, CaseKey
from robustbench_coded.statistics.correlation import UNMEASURED, Correlation
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.outcomes import Cell, case_keys
from robustbench_coded.statistics.partitions import partition_difference, partition_interval
from robustbench_coded.statistics.random_batches import random_batch_high

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

    def high(self, tail: float, correlation: Correlation) -> float:
        """The upper end alone."""
        return self.interval(tail)[1]

    def above_base_high(self, base: NDArray[np.bool_], tail: float, correlation: Correlation) -> float:
        """Upper end for that accuracy less a base model's, whose answers ``base`` [examples] are."""
        return self.above_base(base, tail)[1]

    def above_base(self, base: NDArray[np.bool_], tail: float) -> tuple[float, float]:
        """Both ends of that difference, each erring with probability ``tail``."""
        return partition_difference(self.correct, self.batch, base, tail)


@dataclass(frozen=True)
class InRandomBatches:
    """Answers to victims, each in a random batch of its own, in one draw of the defence."""

    example: NDArray[np.int64]  # [victims], increasing
    correct: NDArray[np.bool_]  # [victims]
    k: int

    def high(self, tail: float, correlation: Correlation) -> float:
        """Upper end for the accuracy under this attack, which errs with probability ``tail``."""
        return random_batch_high(self.correct, tail, correlation, self.k)

    def above_base_high(self, base: NDArray[np.bool_], tail: float, correlation: Correlation) -> float:
        """Upper end for that accuracy less a base model's, whose answers ``base`` [victims] are: what the
        defence alone has right.
        """
        return random_batch_high(self.correct & ~base, tail, correlation, self.k)


OtherBatches = Repartitioned | InRandomBatches


@dataclass(frozen=True)
class Beside:
    """What other batches say about a row.

    Attributes:
        cell: the row's outcomes that it is about.
        own: of the row's own attack in random partitions; None where that was not scored so.
        playable: of attacks that the attacker whom the row combines could always play instead.
    """

    cell: Cell
    own: Repartitioned | None = None
    playable: tuple[OtherBatches, ...] = ()

    def interval(
        self, alone: Callable[[float], Interval], tail: float, correlation: Correlation = UNMEASURED
    ) -> Interval:
        """The row's interval; ``alone`` gives the one without other batches by its tail.

        An attacker who may always play one attack leaves at most what that attack leaves: the upper end is
        the lowest of his own and of those attacks', each of which errs at its share of the tail.
        """
        row = alone(tail)
        if self.own is not None:
            low, high = self.own.interval(tail)
            return replace(row, low=min(low, row.estimate), high=max(high, row.estimate))
        share = tail / (1 + len(self.playable))
        ends = [alone(share).high, *(one.high(share, correlation) for one in self.playable)]
        return replace(row, high=max(min(ends), row.estimate))

    def difference_high(
        self,
        alone: Callable[[float], float],
        base: Callable[[NDArray[np.int64]], NDArray[np.bool_] | None],
        estimate: float,
        tail: float,
        correlation: Correlation = UNMEASURED,
    ) -> float:
        """The same for the upper end of the difference to a base model.

        Args:
            base: the base model's answers to examples; None where it lacks some.
        """
        share = tail / (1 + len(self.playable))
        ends = [alone(share)]
        for one in self.playable:
            answers = base(one.example)
            if answers is not None:
                ends.append(one.above_base_high(answers, share, correlation))
        return max(min(ends), estimate)


def beside(cell: Cell | None, own: OtherBatches | None, playable: list[OtherBatches]) -> Beside | None:
    """Those of the outcomes that are about the examples of ``cell``; None where there are none.

    Victims are a random part of the examples, whichever of them ``cell`` holds.
    """
    if cell is None:
        return None
    if isinstance(own, InRandomBatches):
        playable = [own, *playable]
        own = None
    fits = [
        one
        for one in playable
        if isinstance(one, InRandomBatches) or np.array_equal(one.example, cell.example)
    ]
    if own is not None and not np.array_equal(own.example, cell.example):
        own = None
    return Beside(cell, own, tuple(fits)) if fits or own is not None else None


def repartitioned(outcomes: pd.DataFrame) -> dict[CaseKey, OtherBatches]:
    """By case; of a case that has some partitions for some examples only, the examples that have all."""
    rows = outcomes[(outcomes["purpose"] == PARTITION).to_numpy(dtype=bool)]
    found: dict[CaseKey, OtherBatches] = {}
    for _, part in rows.groupby(list(KEY_COLUMNS), dropna=False, observed=True):
        key = case_keys(part.iloc[:1])[0]
        if key.threat.one_victim:
            part = part.sort_values("example")
            right = (part["prediction"] == part["label"]).to_numpy(dtype=bool)
            found[key] = InRandomBatches(part["example"].to_numpy().astype(np.int64), right, key.k or 1)
            continue
        tables = [
            part.assign(right=part["prediction"] == part["label"]).pivot(
                index="example", columns="draw", values=values
            )
            for values in ("batch", "right")
        ]
        whole = tables[0].notna().all(axis=1).to_numpy()
        batch, right = (table.to_numpy()[whole] for table in tables)
        if batch.shape[0] and batch.shape[1] > 1:
            found[key] = Repartitioned(
                tables[0].index.to_numpy()[whole].astype(np.int64),
                batch.astype(np.int64),
                right.astype(bool),
            )
    return found
