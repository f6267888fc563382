"""Several judgements at once, with the chance of any false one kept at the level of a single one.

    holm(intervals, settled, tail) -> list[Adjusted]      step by step, for decisions
    simultaneous(intervals, tail)  -> list[Ends]          all at once, for the largest of several estimates
    step_down(asked, settled, tail) -> list[Answer]       Holm's steps for any kind of question

An interval is given as a function of the probability with which each of its ends may err, because what is
adjusted is that probability. Holm, Scandinavian Journal of Statistics 6, 1979: of m open questions each is
asked at tail / m; those that are settled are taken out, and the rest is asked again at their smaller number.
The chance that any of them is settled wrongly stays at most ``tail`` an end, whatever the dependence between
them. The largest of m estimates was picked for being large: its interval is the simultaneous one, at tail /
m.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
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
    answers = step_down(intervals, settled, tail)
    return [Adjusted(answer.settled, *answer.answer, answer.tail) for answer in answers]


class Answer(NamedTuple, Generic[T]):
    """What one of several questions was answered last, whether that settles it, and at which error."""

    answer: T
    settled: bool
    tail: float


def step_down(
    asked: Sequence[Callable[[float], T]], settled: Callable[[T], bool], tail: float
) -> list[Answer[T]]:
    """Asks every open question at its share of the error until none of them is settled any more.

    Args:
        asked: from the probability of error to an answer; what settles it at one error does at a larger one.
        settled: whether an answer settles its question.
        tail: probability of error for all questions together.
    """
    found: dict[int, Answer[T]] = {}
    while len(found) < len(asked):
        remaining = [index for index in range(len(asked)) if index not in found]
        each = tail / len(remaining)
        answers = {index: asked[index](each) for index in remaining}
        answered = {index: answer for index, answer in answers.items() if settled(answer)}
        for index, answer in (answered or answers).items():
            found[index] = Answer(answer, bool(answered), each)
    return [found[index] for index in range(len(asked))]


def simultaneous(intervals: Sequence[Callable[[float], Ends]], tail: float) -> list[Ends]:
    """Intervals that hold all truths at once: whichever is picked afterwards is still right."""
    return [interval(tail / len(intervals)) for interval in intervals]
