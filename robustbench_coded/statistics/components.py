"""How much of an accuracy's uncertainty comes from what, when an evaluation was repeated.

    components(outcomes, key) -> Components

Every replicate cuts the data into other batches and uses other seeds for attack and draws. A component is the
standard deviation that one source alone would give to the accuracy of a single evaluation:

* draw: other scoring draws, from the differences between draws within a batch;
* batch: other batches of other examples, from the differences between batches within a replicate, less draw;
* partition and attack run: the same examples again, from the differences between replicates, less draw. What
  clean inputs show is the partition, for nothing attacks them; what attacked inputs show beyond it is the
  run.

A variance that comes out negative by chance counts as 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.statistics.outcomes import Cell, cells
from robustbench_coded.statistics.variance import between_batches


@dataclass(frozen=True)
class Components:
    """Standard deviations of an accuracy, as fractions; NaN where there are too few of something to tell."""

    replicates: int
    draw: float
    batch: float
    partition: float
    attack_run: float


def components(outcomes: pd.DataFrame, key: CaseKey) -> Components:
    """The components of the row ``key``, from the scoring outcomes of all replicates.

    Raises:
        KeyError: no replicate has outcomes for the row.
    """
    numbers = outcomes["replicate"].unique() if "replicate" in outcomes else [0]
    found = [cells(outcomes, int(number)) for number in sorted(numbers)]
    own = [replicate[key, "scoring"] for replicate in found if (key, "scoring") in replicate]
    if not own:
        raise KeyError(f"no outcomes for {key}")
    draw = _by_draws(own)
    batches = float(np.mean([between_batches(cell.correct, cell.batch).variance for cell in own]))
    batch = batches - _or_none(draw) if math.isfinite(batches) else math.nan
    repeated = _repeated(own)
    if key.attack == CLEAN:
        partition = repeated
    else:
        partition = _repeated([cell for replicate in found for cell in _clean(replicate, key)])
        partition = min(partition, repeated) if math.isfinite(partition) else math.nan
    return Components(len(own), *map(_deviation, (draw, batch, partition, repeated - partition)))


def _clean(replicate: dict[tuple[CaseKey, str], Cell], key: CaseKey) -> list[Cell]:
    """The clean outcomes of the same checkpoint and defence, at most one cell."""
    return [
        cell
        for (other, purpose), cell in replicate.items()
        if purpose == "scoring" and other.attack == CLEAN and other.subject == key.subject
    ][:1]


def _by_draws(replicates: Sequence[Cell]) -> float:
    """Variance of an accuracy that its draws explain; NaN for one draw."""
    return float(np.mean([_drawn(cell) for cell in replicates]))


def _drawn(cell: Cell) -> float:
    if len(cell.draw) == 1:
        return math.nan
    members, sizes = np.unique(cell.batch, return_inverse=True, return_counts=True)[1:]
    totals = np.stack([np.bincount(members, weights=right) for right in cell.correct.T], axis=1)
    # A batch's draws are its own: the variances of batch totals add up.
    return float(totals.var(axis=1, ddof=1).sum()) / len(cell.draw) / sizes.sum() ** 2


def _repeated(replicates: Sequence[Cell]) -> float:
    """Variance of an accuracy between replicates beyond what draws explain; NaN for one replicate."""
    if len(replicates) < 2:
        return math.nan
    means = [float(cell.correct.mean()) for cell in replicates]
    return max(float(np.var(means, ddof=1)) - _or_none(_by_draws(replicates)), 0.0)


def _or_none(variance: float) -> float:
    return 0.0 if math.isnan(variance) else variance


def _deviation(variance: float) -> float:
    return math.sqrt(max(variance, 0.0)) if not math.isnan(variance) else math.nan
