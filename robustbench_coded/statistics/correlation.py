"""The correlation of two outcomes of a batch: the beta-binomial likelihood, and what all rows of a subject
show.

Batch b has ``right[b]`` of ``trials[b]`` outcomes right. Batches have accuracies from a beta distribution
with mean mu; two outcomes of a batch have correlation rho (Williams, Biometrics 31, 1975). rho = 0 is the
binomial, rho = 1 a batch that is right or wrong as a whole. The intervals of mean and correlation invert the
likelihood ratio test of one parameter, the other one being profiled out. Counts may be fractions: the
likelihood is continued by the gamma function.

Two corrections make the ratio's threshold honest for few batches and near the ends:

* B log(1 + t^2 / (B - 1)), with Student's t for B - 1 degrees of freedom, in place of the normal z^2: with it
  the interval for a normal mean is exactly Student's;
* the ratio that Clopper and Pearson's bound has for a Poisson count of the same information, in place of z^2,
  for the end away from the estimate's nearer bound. With x effective outcomes right it is 7.4 at x = 0, 5.6
  at x = 1, 4.6 at x = 10, and z^2 = 3.8 for large x.

A row with no right answer, or with nothing but right answers, has no spread to measure a correlation on. It
borrows the correlation from the other rows of its subject, which rests on one assumption: the outcomes of a
batch are no more alike in the judged row than in the rows where that could be measured. Clean inputs and
random signs may raise the correlation and never lower it, since unattacked batches may be
independent where attacked batches survive or fall as one.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, ndtri, stdtrit, xlogy

MOST = 10_000  # results of each function that are kept

P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, computed once for the same arguments: arrays of the same content, or hashables.

    The result is handed out again as it is, so it must be immutable.
    """
    found: OrderedDict[Hashable, R] = OrderedDict()

    @wraps(function)
    def ask(*args: P.args, **named: P.kwargs) -> R:
        key = (*map(_key, args), *((name, _key(value)) for name, value in sorted(named.items())))
        if key not in found:
            found[key] = function(*args, **named)
            if len(found) > MOST:
                found.popitem(last=False)
        return found[key]

    return ask


def _key(value: object) -> Hashable:
    if not isinstance(value, np.ndarray):
        return value
    return value.dtype.str, value.shape, blake2b(value.tobytes(), digest_size=16).digest()


Floats = NDArray[np.float64]

# rho = 1 / (1 + theta). From independent outcomes to a batch that is one outcome; the steps are small enough
# for a parabola through three of them.
_THETA = np.geomspace(1e5, 1e-3, 34)
# Distances on the logit scale at which a mean is looked for, from the estimate outwards.
_STEPS = np.array([0.03, 0.1, 0.25, 0.6, 1.2, 2.2, 4.0, 8.0, 20.0])
_OFFSETS = np.concatenate([-_STEPS[::-1], [0.0], _STEPS])
_MOST_GROUPS = 64


def mean_interval(
    right: Floats, trials: Floats, tail: float, most_correlated: float = 1.0
) -> tuple[float, float]:
    """Interval for the mean accuracy of batches, erring with probability ``tail`` at each end.

    Args:
        right, trials: [batches], 0 <= right <= trials, trials > 0; at least two batches, not all of them
        right or all of them wrong.
        most_correlated: correlations above this one are left out, in [0, 1].
    """
    batches = len(right)
    counts = _grouped(right, trials)
    theta = _thetas(most_correlated)
    estimate = float(right.sum() / trials.sum())
    centre = np.log(estimate / (1 - estimate))

    def profile(logits: Floats) -> Floats:
        return _vertex(_log_likelihood(counts, 1 / (1 + np.exp(-logits)), theta))

    logits = centre + _OFFSETS
    values = profile(logits)
    for _ in range(2):
        at = int(values.argmax())
        finer = np.linspace(logits[max(at - 1, 0)], logits[min(at + 1, len(logits) - 1)], 5)[1:-1]
        logits, first = np.unique(np.concatenate([logits, finer]), return_index=True)
        values = np.concatenate([values, profile(finer)])[first]
    best = int(values.argmax())
    worth = _effective(counts, 1 / (1 + np.exp(-logits[best])), theta)
    ends = []
    for side, successes in ((-1, worth * (1 - estimate)), (1, worth * estimate)):
        needed = values[best] - threshold(batches, successes, tail) / 2
        ends.append(_edge(profile, logits, values, best, side, needed))
    low, high = (1 / (1 + np.exp(-end)) for end in ends)
    return float(low), float(high)


def correlation_interval(right: Floats, trials: Floats, tail: float) -> tuple[float, float]:
    """Interval for the correlation of two outcomes of a batch; (0, 1) for one batch.

    Args:
        right, trials: as for `mean_interval`; neither all right nor all wrong.
    """
    batches = len(right)
    if batches < 2:
        return 0.0, 1.0
    estimate = float(right.sum() / trials.sum())
    logits = np.log(estimate / (1 - estimate)) + _OFFSETS
    table = _log_likelihood(_grouped(right, trials), 1 / (1 + np.exp(-logits)), _THETA)
    values = _vertex(table.T)
    inside = np.flatnonzero(values >= values.max() - student_threshold(batches, tail) / 2)
    # One grid step to either side: outwards, never inwards. The first grid point stands for independence.
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(_THETA) - 1)
    low = 0.0 if first == 0 else 1 / (1 + _THETA[first])
    high = 1.0 if last == len(_THETA) - 1 else 1 / (1 + _THETA[last])
    return float(low), float(high)


def threshold(batches: int, successes: float, tail: float) -> float:
    """What twice the log likelihood may lose, for an end that ``successes`` effective outcomes lie below."""
    student = student_threshold(batches, tail)
    normal = float(ndtri(tail)) ** 2
    at_zero = -2 * np.log(tail)
    return float(np.clip(student * _poisson_ratio(successes, tail) / normal, student, max(student, at_zero)))


def student_threshold(batches: int, tail: float) -> float:
    """The threshold at which the likelihood ratio interval for a normal mean is Student's."""
    quantile = float(stdtrit(batches - 1, 1 - tail))
    return batches * float(np.log1p(quantile**2 / (batches - 1)))


def _poisson_ratio(count: float, tail: float) -> float:
    """Likelihood ratio at the exact upper bound of a Poisson mean."""
    bound = float(gammaincinv(count + 1, 1 - tail))
    return 2 * (bound - count - float(xlogy(count, bound / count) if count > 0 else 0.0))


def _thetas(most_correlated: float) -> Floats:
    if most_correlated >= 1:
        return _THETA
    least = 1 / most_correlated - 1 if most_correlated > 0 else np.inf
    return np.geomspace(_THETA[0], min(least, _THETA[0] / 10), len(_THETA))


def _grouped(right: Floats, trials: Floats) -> tuple[Floats, Floats, Floats]:
    """Counts, trials and how often: batches of nearly the same count are counted together where many are."""
    pairs, often = np.unique(np.stack([right, trials]), axis=1, return_counts=True)
    if len(often) <= _MOST_GROUPS:
        return pairs[0], pairs[1], often.astype(np.float64)
    place = np.log((right + 0.5) / (trials - right + 0.5)).round(1)
    inner = (right > 0) & (right < trials)
    keys = np.stack([np.where(inner, place, np.inf * np.sign(right - trials / 2)), trials])
    group, often = np.unique(keys, axis=1, return_inverse=True, return_counts=True)[1:]
    means = [np.bincount(group.ravel(), weights=values) / often for values in (right, trials)]
    return means[0], means[1], often.astype(np.float64)


def _log_likelihood(counts: tuple[Floats, Floats, Floats], mean: Floats, theta: Floats) -> Floats:
    """[means, thetas]"""
    right, trials, often = counts
    sums = theta[None, :, None]
    ones, zeros = (share[:, None, None] * sums for share in (mean, 1 - mean))
    values = (
        gammaln(right + ones)
        - gammaln(ones)
        + gammaln(trials - right + zeros)
        - gammaln(zeros)
        + gammaln(sums)
        - gammaln(trials + sums)
    )
    return values @ often


def _vertex(table: Floats) -> Floats:
    """[rows, grid] -> [rows], each row's maximum, by a parabola through the largest value and its
    neighbours."""
    rows, at = np.arange(len(table)), table.argmax(axis=1)
    middle = np.clip(at, 1, table.shape[1] - 2)
    left, centre, right = (table[rows, middle + step] for step in (-1, 0, 1))
    bend = left - 2 * centre + right
    inner = (at == middle) & (bend < -1e-12)
    return table[rows, at] + np.where(inner, -((left - right) ** 2) / (8 * np.where(inner, bend, -1.0)), 0.0)


def _effective(counts: tuple[Floats, Floats, Floats], mean: float, theta: Floats) -> float:
    """As many independent outcomes as the batches are worth at their likeliest correlation."""
    _, trials, often = counts
    likeliest = theta[_log_likelihood(counts, np.array([mean]), theta)[0].argmax()]
    return float((often * trials * (1 + likeliest) / (trials + likeliest)).sum())


def _edge(profile, logits: Floats, values: Floats, best: int, side: int, needed: float) -> float:
    """Where the profile falls below ``needed`` on one side of its top; the outer end of the bracket."""
    below = np.flatnonzero(values < needed)
    beyond = below[below < best][::-1] if side < 0 else below[below > best]
    if not len(beyond):
        return float(logits[0] if side < 0 else logits[-1])
    outer, inner = beyond[0], beyond[0] - side
    ends = [(logits[outer], values[outer] - needed), (logits[inner], values[inner] - needed)]
    for _ in range(4):
        (out, lost), (into, kept) = ends
        # Where a straight line would cross, and a little further out: the bracket shrinks from both sides.
        crossing = into + (out - into) * min(max(kept / (kept - lost), 0.02), 0.98)
        between = np.array([crossing, crossing + 0.1 * (out - crossing)])
        for logit, value in zip(between, profile(between) - needed):
            if value < 0:
                ends[0] = (logit, value)
                break
            ends[1] = (logit, value)
    return float(ends[0][0])


LIMIT_TAIL = 0.025  # by which each limit of a correlation errs
CENTRAL = (0.1, 0.9)  # accuracies at which a correlation of batches would be seen


@dataclass(frozen=True)
class Correlation:
    """Between which limits the correlation of two outcomes of a batch lies: 0 <= low <= high <= 1."""

    low: float = 0.0
    high: float = 1.0

    def effective(self, sizes: NDArray[np.integer]) -> float:
        """How many independent outcomes batches of ``sizes`` are worth at the upper limit."""
        return float((sizes / (1 + (sizes - 1) * self.high)).sum())


UNMEASURED = Correlation()


def counts(
    correct: NDArray[np.bool_], batch: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Outcomes of each batch as a binomial count: right answers, trials, and the number of examples.

    An example answered in R draws counts as 1 to R trials: as many as make the spread of examples' means
    within batches binomial. It is 1 where an example's answers are all alike, R where draws are independent.
    """
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    means = correct.mean(axis=1, dtype=np.float64)
    shares = np.bincount(members, weights=means) / sizes
    trials = sizes * _trials_an_example(means, shares, members, sizes, correct.shape[1])
    return shares * trials, trials, sizes


@remembered
def measured(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> Correlation:
    """What one row shows of its own correlation; ``UNMEASURED`` where every or no answer is right.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
    """
    if not 0 < np.count_nonzero(correct) < correct.size:
        return UNMEASURED
    right, trials, _ = counts(correct, batch)
    return Correlation(*correlation_interval(right, trials, LIMIT_TAIL))


Table = tuple[NDArray[np.bool_], NDArray[np.integer]]


@dataclass(frozen=True)
class Shown:
    """What one row shows of its batches' correlation, and whether it could have shown much."""

    correlation: Correlation
    attacked: bool  # neither clean inputs nor random signs
    central: bool  # an accuracy at which a correlation would be seen


def shown(correct: NDArray[np.bool_], batch: NDArray[np.integer], *, attacked: bool) -> Shown:
    """`measured`, for `pooled_of`."""
    central = CENTRAL[0] <= float(correct.mean()) <= CENTRAL[1]
    return Shown(measured(correct, batch), attacked, central)


def pooled_of(rows: Iterable[Shown]) -> Correlation:
    """The limits that the rows of a subject set together.

    Attacked rows with accuracies from 10 to 90% measure a correlation; without any, nothing is known of it.
    The upper limit is the median of theirs, and where rows leave no doubt that there is some correlation, at
    least the largest of those: rows in which batches agree do not speak for the one in which they fall apart.
    Other rows raise it to the correlation that they certainly have.
    """
    rows = list(rows)
    measuring = [row.correlation for row in rows if row.attacked and row.central]
    if not measuring:
        return UNMEASURED
    upper = [sorted(found.high for found in measuring)[len(measuring) // 2]]
    upper += [found.high for found in measuring if found.low > 0]
    upper += [row.correlation.low for row in rows]
    return Correlation(max(found.low for found in measuring), max(upper))


def pooled(attacked: Iterable[Table], controls: Iterable[Table] = ()) -> Correlation:
    """`pooled_of` tables: ``correct`` [examples, draws] and ``batch`` [examples] of each row of a subject."""
    return pooled_of(
        [shown(*row, attacked=True) for row in attacked] + [shown(*row, attacked=False) for row in controls]
    )


def _trials_an_example(
    means: NDArray[np.float64],
    shares: NDArray[np.float64],
    members: NDArray[np.integer],
    sizes: NDArray[np.integer],
    draws: int,
) -> float:
    if draws == 1 or (sizes == 1).all():
        return 1.0
    within = float(((means - shares[members]) ** 2).sum() / (sizes - 1).sum())
    binomial = float(sizes @ (shares * (1 - shares)) / sizes.sum())
    return float(np.clip(binomial / within, 1, draws)) if within > 0 else float(draws if binomial > 0 else 1)
