"""The exact interval of answers that are given one by one, and what an interval is about.

The units are images. n images of which s are right have Clopper and Pearson's interval. An image with
several draws counts with its mean over them, and s is the sum of these means: real-valued counts, which vary
less than right and wrong answers would. So there are never more answers than images, however many draws each
has, and few images that differ from the rest do not make the end err (benchmarks/errors/coverage.md).

A batch of inputs may share its draws: one network of a random ensemble answers all of them. Where batch means
vary from draw to draw beyond what independent answers do, the number of answers is smaller: p (1 - p) over
the variance of the mean (Korn and Graubard, Survey Methodology 24, 1998), with Student's factor.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from robustbench_coded.schema.words import MARGIN, IntervalKind

TAIL = 0.025  # on either side of a 95% interval

# Draws that all fall alike: of a fair coin, with probability 2^-5 for as many degrees of freedom.
ENOUGH = 5


def clopper_pearson(successes: float, trials: float, tail: float) -> tuple[float, float]:
    """Exact binomial interval; real-valued counts are allowed, 0 <= successes <= trials and trials > 0."""
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def student_factor(degrees: float, tail: float) -> float:
    """By how much a variance estimated with few degrees of freedom must grow to use normal quantiles."""
    if degrees == np.inf:
        return 1.0
    return (float(stdtrit(degrees, 1 - tail)) / -float(ndtri(tail))) ** 2


class AsAttacked(NamedTuple):
    """The accuracy in the disjoint batches that the attacker made, and their number."""

    accuracy: float
    batches: int


@dataclass(frozen=True)
class Interval:
    """An accuracy and its 95% interval, as fractions: 0 <= low <= estimate <= high <= 1 and low < high.

    Attributes:
        kind: what ``low`` and ``high`` are about; None where the figure has no interval of its own. Then they
            say what is known of it all the same: 0 and 1, or of a known draw what an unknown one leaves.
        images: from how many all three come.
        batches: from how many batches of inputs answered together; 0 where inputs are answered one by one.
        own: the figure as attacked, of whole batches of a batch-dependent defence. Where there is a ``kind``,
            the others are of the same inputs in random batches.
        rebatched: the attack whose inputs those are; '' where nothing was scored in random batches.
    """

    estimate: float
    low: float
    high: float
    kind: IntervalKind | None = IntervalKind.POPULATION
    images: int = 0
    batches: int = 0
    own: AsAttacked | None = None
    rebatched: str = ""

    @property
    def as_attacked(self) -> float:
        """The accuracy in the batches that the attacker made, or of answers one by one."""
        return self.estimate if self.own is None else self.own.accuracy

    @property
    def lower_as_attacked(self) -> bool:
        """True if inputs that are made together do over 3 points more in their own batches."""
        return self.as_attacked < self.estimate - MARGIN


def accuracy_interval(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    *,
    batch_dependent: bool,
    randomised: bool = True,
    tail: float = TAIL,
) -> Interval:
    """Mean of ``correct`` and its interval for the population.

    It has none where answers depend on their batches, nor where too few draws tell whether a batch shares
    them.

    Args:
        correct: [images, draws], whether each answer is right; at least one of each.
        batch: [images], the batch each was answered in. For a defence that treats inputs independently it
            says which of them may have shared a draw.
        batch_dependent: whether an answer may depend on the co-batched inputs.
        randomised: whether the answers come from draws.
        tail: with which probability each end may err, in (0, 0.5).

    Raises:
        ValueError: shapes do not fit or there is nothing to average.
    """
    images, draws = correct.shape
    if batch.shape != (images,) or not correct.size:
        raise ValueError(f"expected correct [n, draws] and batch [n], got {correct.shape} and {batch.shape}")
    estimate, batches = float(correct.mean()), len(np.unique(batch))
    if batch_dependent or (randomised and batches < images and batches * (draws - 1) < ENOUGH):
        return Interval(estimate, 0.0, 1.0, None, images, batches)
    worth = answers_worth(correct, batch, tail)
    low, high = clopper_pearson(estimate * worth, worth, tail)
    return Interval(estimate, low, high, IntervalKind.POPULATION, images)


def answers_worth(correct: NDArray[np.bool_], batch: NDArray[np.integer], tail: float) -> float:
    """How many independent answers ``correct`` [images, draws] are worth, at most one for each image."""
    images, draws = correct.shape
    estimate, shared = float(correct.mean()), shared_variance(correct, batch)
    if not shared or estimate in (0, 1):
        return float(images)
    batches = len(np.unique(batch))
    of_images = float(correct.mean(axis=1).var(ddof=1)) / images
    # Welch-Satterthwaite: the degrees of freedom of a sum lie between those of its parts.
    total = of_images + shared
    degrees = total**2 / (of_images**2 / (images - 1) + shared**2 / (batches * (draws - 1)))
    worth = estimate * (1 - estimate) / (total * student_factor(degrees, tail))
    return float(np.clip(worth, min(images, batches * draws), images))


def shared_variance(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> float:
    """Variance that the mean of ``correct`` [images, draws] owes to draws shared by a batch; 0 where there is
    no sign of any.
    """
    draws = correct.shape[1]
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    several = sizes > 1
    if draws == 1 or not several.any():
        return 0.0
    totals = np.stack([np.bincount(members, weights=column) for column in correct.T], axis=1)
    of_means = (totals / sizes[:, None]).var(axis=1, ddof=1)
    of_answers = np.bincount(members, weights=correct.var(axis=1, ddof=1)) / sizes
    shared = (sizes * of_means - of_answers)[several] / (sizes[several] - 1)
    return max(float(sizes[several] ** 2 @ shared) / sizes.sum() ** 2 / draws, 0.0)
