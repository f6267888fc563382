"""Intervals that hold at every look: bets, and answers in random batches.

**The upper end of a mean, by betting**, is certain whatever the distribution. The capital of a gambler who
bets against "the mean is at least m" is multiplied with every value x by

    1 + c (m - x) / (most - m)

It is never negative, and if the mean is m or more, it is not expected to grow. So it ever reaches 1 /
tail with probability at most ``tail`` (Ville 1939; Waudby-Smith and Ramdas, arXiv 2010.09686, section 4),
whatever the values are, and however often they are looked at. The gambler divides his capital between
several c, which is a mixture of such capitals. Half of it goes to c = 1, which loses nothing where every
value is the smallest: 140 answers, all wrong, show at a tail of 2.5% that less than 3% are right. Larger
values never lower the end: the capital falls with each of them.

**Random batches.** A batch-dependent defence answers few disjoint batches of n images. Perturbed inputs that
are already there can be scored in any number of random batches for a forward pass each, in one fresh draw of
the defence. Batches are drawn independently of each other. So their accuracies are independent values in [0,
1] with one mean: the accuracy on these images, over random batches of them and draws, which bets bound
without any assumption on images. The same bets over images, of which each is one value, its mean over its
random batches, have to agree: a few images in many batches would otherwise say as much as many images. For
them it is assumed that images matter to each other only through the batches that they fill.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.judge.outcomes import case_keys
from robustbench_coded.schema.case import KEY_COLUMNS, Case

SHARES = np.array([1.0, 0.9, 0.75, 0.5, 0.3, 0.15, 0.07, 0.03])  # c
CAPITAL = np.array([0.5, *[0.5 / 7] * 7])  # what is bet with each
_BET_HALVINGS = 50


def upper_end(values: NDArray[np.floating], tail: float, most: float = 1.0) -> float:
    """The largest mean, between that of ``values`` and ``most``, that is not refuted.

    Args:
        values: [n] independent with the same mean, each at most ``most``; n >= 1.
        tail: with which probability the end may ever err, in (0, 1).

    Raises:
        ValueError: there are no values, or one is larger than ``most``.
    """
    if not values.size or values.max() > most:
        raise ValueError(f"expected one value or more, at most {most}, got {values.size} values")
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    low, high = float(values.mean()), float(most)
    for _ in range(_BET_HALVINGS):
        middle = (low + high) / 2
        if middle <= low or middle >= high:
            break
        if _log_capital(distinct, counts, middle, most) < -math.log(tail):
            low = middle
        else:
            high = middle
    return high


def _log_capital(values: NDArray[np.float64], counts: NDArray[np.integer], mean: float, most: float) -> float:
    factors = 1 + SHARES[:, None] * (mean - values) / (most - mean)
    with np.errstate(divide="ignore"):
        grown = np.log(np.maximum(factors, 0.0)) @ counts + np.log(CAPITAL)
    return float(np.logaddexp.reduce(grown))


def values_needed(accuracy: float, bar: float, tail: float) -> int | None:
    """How many values in [0, 1], all of them ``accuracy``, show that their mean is below ``bar``; None where
    none do.
    """
    if accuracy >= bar:
        return None
    value = np.array([accuracy])
    few, many = 0, 1
    while _log_capital(value, np.array([many]), bar, 1.0) < -math.log(tail):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if _log_capital(value, np.array([middle]), bar, 1.0) < -math.log(tail):
            few = middle
        else:
            many = middle
    return many


RANDOM = "random"  # the purpose of such outcomes


@dataclass(frozen=True)
class RandomBatches:
    """Answers to one attack's perturbed inputs.

    Attributes:
        example: [answers]. number: [answers], that of the random batch. correct: [answers].
        attack: its name.
    """

    example: NDArray[np.int64]
    number: NDArray[np.int64]
    correct: NDArray[np.bool_]
    attack: str = ""

    @property
    def batches(self) -> int:
        """Number of random batches that were scored."""
        return len(np.unique(self.number))

    @property
    def images(self) -> NDArray[np.int64]:
        """The images that were scored in them, increasing."""
        return np.unique(self.example)

    @property
    def accuracy(self) -> float:
        """The mean accuracy of a random batch."""
        return float(_means(self.correct.astype(np.float64), self.number).mean())

    def interval(self, tail: float) -> tuple[float, float]:
        """For the accuracy on these images; each end ever errs with probability at most ``tail``.

        Victims, of which each batch scores one, are answered one by one: theirs is the exact interval, for a
        number that was fixed before they answered.
        """
        if self.batches == len(self.correct):
            return clopper_pearson(int(self.correct.sum()), self.batches, tail)
        values = self.correct.astype(np.float64)
        units = [_means(values, self.number), _means(values, self.example)]
        low = min(-upper_end(-means, tail, 0.0) for means in units)
        return max(0.0, low), max(upper_end(means, tail) for means in units)


def random_batches(outcomes: pd.DataFrame) -> dict[Case, RandomBatches]:
    """Scores in random batches, by case, up to the first batch that is missing: which ones a run
    that was stopped had finished may depend on their answers.
    """
    rows = outcomes[(outcomes["purpose"] == RANDOM).to_numpy(dtype=bool)]
    scored = {}
    for _, part in rows.groupby(list(KEY_COLUMNS), dropna=False, observed=True):
        numbers = np.unique(part["draw"].to_numpy())
        in_order = numbers == 1 + np.arange(len(numbers))
        if not in_order[0]:
            continue
        part = part[part["draw"].isin(numbers[in_order.cumprod(dtype=bool)]).to_numpy()]
        case = case_keys(part.iloc[:1])[0]
        scored[case] = RandomBatches(
            part["example"].to_numpy().astype(np.int64),
            part["draw"].to_numpy().astype(np.int64),
            (part["prediction"] == part["label"]).to_numpy(dtype=bool),
            case.attack,
        )
    return scored


def _means(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    code, sizes = np.unique(group, return_inverse=True, return_counts=True)[1:]
    return np.minimum(np.bincount(code, weights=values) / sizes, 1.0)
