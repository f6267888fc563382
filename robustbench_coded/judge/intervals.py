"""95% intervals for an accuracy, for each way in which outcomes can depend on one another.

The truth aimed at is the population accuracy over examples, batches and draws. Each end errs with
probability 2.5%, unless another is given; docs/numbers.md has a table of how often
(`benchmarks/errors/coverage.py`).

One method serves both kinds of outcomes: Clopper and Pearson's interval with the effective number of
outcomes that the variance between independent units gives (Korn and Graubard, Survey Methodology 24, 1998)
and Student's factor, widened to what none or all of n right would leave. A few right answers must not promise
more than none would, nor may units that happen to agree near 0 or 1, where those that were seen say little
about those that were not.

* Of a batch-dependent defence the units are batches, and n is the effective number of outcomes at the largest
  correlation that the subject's rows allow, and the number of batches where none of them measures it, this
  one included. Each end is made for half of its error: batches whose means are skewed would otherwise err in
  up to 5%.
* Of a defence that treats its inputs independently the units are examples. With one draw it is the exact
  binomial interval; with several, what a batch's shared draws add to the variance is taken into account. A
  row with few draws takes that from others (`variance.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from robustbench_coded.judge.correlation import CENTRAL, UNMEASURED, Correlation, measured
from robustbench_coded.judge.variance import (
    NOT_SHARED,
    SharedDraws,
    between_batches,
    between_examples,
    by_batch,
    shared_by_draws,
)
from robustbench_coded.schema.words import IntervalKind

# Batches have half of the error: the variance between the batches that were seen is too small where the rare
# ones are far away.
OF_BATCHES = 0.5
# Batches whose means agree better than independent examples would are lucky, not informative: a variance of
# less than half the independent one is not believed. Half, not all of it, because at five batches the
# Student factor already pays for the luck.
LEAST_DESIGN_EFFECT = 0.5


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


def clustered_interval(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    tail: float,
    correlation: Correlation = UNMEASURED,
) -> tuple[float, float]:
    """Interval for the population accuracy, over examples, batches and draws.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
        tail: with which probability each end may err, in (0, 0.5).
        correlation: of two outcomes of a batch, as the other rows of the subject show it (`pooled`).
    """
    estimate, spread = float(correct.mean()), between_batches(correct, batch)
    tail_of_batches = tail * OF_BATCHES
    variance = spread.variance * student_factor(spread.degrees, tail_of_batches)
    never = unseen(correct, batch, tail, correlation)
    return _ends(correct, estimate, variance, spread.least, never, tail_of_batches)


def unseen(
    correct: NDArray[np.bool_], batch: NDArray[np.integer], tail: float, correlation: Correlation
) -> float:
    """The share that may be right where none was seen: the upper end of 0 of n, at ``tail``.

    n is the effective number of outcomes at the largest ``correlation``. An accuracy from 10 to 90% that no
    other row measured a correlation for measures it itself.
    """
    if correlation.high >= 1 and CENTRAL[0] <= correct.mean() <= CENTRAL[1]:
        correlation = measured(correct, batch)
    effective = correlation.effective(np.unique(batch, return_counts=True)[1])
    return clopper_pearson(0, effective, tail)[1]


def _ends(
    correct: NDArray[np.bool_], estimate: float, variance: float, fewest: float, never: float, tail: float
) -> tuple[float, float]:
    """Clopper and Pearson's ends at the effective number that a variance gives, as wide as none right leaves.

    Args:
        variance: of the mean of ``correct``. fewest: the smallest effective number. never: `unseen`.
    """
    if estimate in (0.0, 1.0):
        return (0.0, never) if estimate == 0 else (1 - never, 1.0)
    binomial = estimate * (1 - estimate)
    independent = max(_variance_of_examples(correct), binomial / correct.size)
    effective = max(binomial / max(variance, LEAST_DESIGN_EFFECT * independent), fewest)
    low, high = clopper_pearson(estimate * effective, effective, tail)
    return min(low, 1 - never, estimate), max(high, never, estimate)


def _variance_of_examples(correct: NDArray[np.bool_]) -> float:
    """Of the mean, were examples independent; 0 for one example."""
    examples = len(correct)
    return float(correct.mean(axis=1, dtype=np.float64).var(ddof=1)) / examples if examples > 1 else 0.0


TAIL = 0.025  # on either side of a 95% interval


@dataclass(frozen=True)
class Interval:
    """An accuracy and its 95% interval, as fractions: 0 <= low <= estimate <= high <= 1 and low < high.

    Attributes:
        kind: what ``low`` and ``high`` are about.
        population: both ends for the population, where they are about something else.
    """

    estimate: float
    low: float
    high: float
    kind: IntervalKind = IntervalKind.POPULATION
    population: tuple[float, float] | None = None


def accuracy_interval(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    *,
    batch_dependent: bool,
    correlation: Correlation = UNMEASURED,
    shared: SharedDraws = NOT_SHARED,
    tail: float = TAIL,
) -> Interval:
    """Mean of ``correct`` and its interval.

    Args:
        correct: [examples, draws], whether each answer is right; at least one of each.
        batch: [examples], the batch each example was answered in. For a defence that treats inputs
            independently it says which examples shared a draw of the defence's randomness.
        batch_dependent: whether an answer may depend on the co-batched inputs; the batch is the unit then.
        correlation: of two outcomes of a batch, as the rows of the subject show it; of a batch-dependent
            defence only.
        shared: what outcomes of a batch and draw have in common, as the rows of the subject show it; of a
            randomised defence that answers its inputs one by one.
        tail: with which probability each end may err, in (0, 0.5).

    Raises:
        ValueError: shapes do not fit or there is nothing to average.
    """
    examples = len(correct)
    if batch.shape != (examples,) or not correct.size:
        raise ValueError(f"expected correct [n, draws] and batch [n], got {correct.shape} and {batch.shape}")
    right = int(np.count_nonzero(correct))
    estimate = right / correct.size
    if batch_dependent:
        low, high = clustered_interval(correct, batch, tail, correlation)
        return Interval(estimate, low, high)
    common = shared_by_draws(shared, correct.shape[1], batch)
    # Independent outcomes that the answers are worth, as far as they show no spread themselves.
    worth = 1 / (1 / examples + common) if common else examples
    spread = between_examples(correct, batch)
    variance = spread.variance * student_factor(spread.degrees, tail)
    if common:
        of_shared = common * student_factor(shared.degrees, tail)
        variance = max(variance, _variance_of_examples(correct) + estimate * (1 - estimate) * of_shared)
    never = clopper_pearson(0, worth, tail)[1]
    low, high = _ends(correct, estimate, variance, min(spread.least, worth), never, tail)
    return Interval(estimate, low, high)


def over_draws(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    shared: SharedDraws = NOT_SHARED,
    tail: float = TAIL,
) -> tuple[float, float]:
    """Both ends for the accuracy of these inputs in these batches, over draws of the defence alone.

    The draws of a batch are independent, and so are batches. Clopper and Pearson's interval with the
    effective number of answers that the variance between draws gives, and Student's factor (degrees of
    freedom: Welch and Satterthwaite), each end made for half of its error as from batches. Answers that never
    moved may move as often as 0 of n leaves open, n being the effective number of answers at the share that
    draws have in common in other rows of the subject.

    Args:
        correct: [examples, draws >= 2], whether each answer is right. batch: [examples].
        shared: what outcomes of a batch and draw have in common, as the rows of the subject show it.
        tail: with which probability each end may err, in (0, 0.5).
    """
    draws, estimate = correct.shape[1], float(correct.mean())
    skewed = tail * OF_BATCHES
    _, sizes, totals = by_batch(correct, batch)
    parts = totals.var(axis=1, ddof=1) / len(correct) ** 2 / draws
    variance = float(parts.sum())
    degrees = variance**2 / float(parts @ parts) * (draws - 1) if variance else np.inf
    of_answers = float(correct.var(axis=1, ddof=1).sum()) / len(correct) ** 2 / draws
    variance = max(variance * student_factor(degrees, skewed), LEAST_DESIGN_EFFECT * of_answers)
    alike = 1 + shared.share * (float(sizes @ sizes) / len(correct) - 1)
    never = clopper_pearson(0, correct.size / alike, tail)[1]
    low = high = estimate
    if variance:
        effective = estimate * (1 - estimate) / variance
        low, high = clopper_pearson(estimate * effective, effective, skewed)
    return max(min(low, estimate - never), 0.0), min(max(high, estimate + never), 1.0)
