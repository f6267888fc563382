"""Several judgements at once, with the chance of any false one kept at the level of a single one.

    holm(intervals, settled, tail) -> list[Adjusted]      step by step, for decisions
    simultaneous(intervals, tail)  -> list[Ends]          all at once, for the largest of several estimates

An interval is given as a function of the probability with which each of its ends may err, because what is
adjusted is that probability. Holm, Scandinavian Journal of Statistics 6, 1979: of m open questions each is
asked at tail / m; those that are settled are taken out, and the rest is asked again at their smaller number.
The chance that any of them is settled wrongly stays at most ``tail`` an end, whatever the dependence between
them. The largest of m estimates was picked for being large: its interval is the simultaneous one, at tail /
m.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Ends = tuple[float, float]


@dataclass(frozen=True)
class Adjusted:
    """One of several questions: whether it is settled, and the interval at the level it was last asked at."""

    settled: bool
    low: float
    high: float
    tail: float


def holm(
    intervals: Sequence[Callable[[float], Ends]], settled: Callable[[Ends], bool], tail: float
) -> list[Adjusted]:
    """Which of several questions are settled, each by its own interval.

    Args:
        intervals: from the probability that an end errs to the ends; the intervals are nested.
        settled: whether an interval leaves one answer only, for example that its low end is above 0.
        tail: probability of error at each end for all questions together.
    """
    found: dict[int, Adjusted] = {}
    while len(found) < len(intervals):
        remaining = [index for index in range(len(intervals)) if index not in found]
        each = tail / len(remaining)
        asked = {index: intervals[index](each) for index in remaining}
        answered = {index: ends for index, ends in asked.items() if settled(ends)}
        for index, ends in (answered or asked).items():
            found[index] = Adjusted(bool(answered), *ends, each)
    return [found[index] for index in range(len(intervals))]


def simultaneous(intervals: Sequence[Callable[[float], Ends]], tail: float) -> list[Ends]:
    """Intervals that hold all truths at once: whichever is picked afterwards is still right."""
    return [interval(tail / len(intervals)) for interval in intervals]
