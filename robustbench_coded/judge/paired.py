"""Differences between two rows, from what both have in common.

Two rows that answer the same images one by one share most of their luck, and the difference of their
accuracies is known better than either of them. The interval joins those of the two accuracies (Zou and
Donner, Statistics in Medicine 27, 2008), with their covariance measured between images. Rows with the same
outcomes may still differ by what 0 of n leaves open.

A row in random batches is compared with a base model on the evaluated images: the base model answers each of
them once, one by one, so its accuracy on them is known, and only the row's own has an error. Two rows in
random batches of the same images have each half of the error. So has one that answers one by one at random,
whose interval for the population is wider than one for these images. Nothing else has an interval: disjoint
batches, and attacks that know the draw.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.judge import intervals
from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.ensemble import common
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.schema.words import IntervalKind

_TINY = 1e-12


class NotPaired(ValueError):
    """Two rows have no examples, batches or draws in common; the message says which."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first row less that of the second, as fractions: -1 <= low <= estimate <= high <= 1.

    Attributes:
        first, second: the two accuracies.
        examples: images that both rows answered, from which all figures come.
        kind: what ``low`` and ``high`` are about; None where nothing bounds the difference.
        own: the difference as attacked, where the others are of inputs in random batches.
    """

    estimate: float
    low: float
    high: float
    first: float
    second: float
    examples: int
    kind: IntervalKind | None = IntervalKind.POPULATION
    own: float | None = None

    @property
    def as_attacked(self) -> float:
        """The difference in the batches that the attacker made, or of answers one by one."""
        return self.estimate if self.own is None else self.own

    def __str__(self) -> str:
        """``+1.0 points (-0.5 to +2.5 for the population, 256 images)``."""
        low, estimate, high = (f"{100 * value:+z.1f}" for value in (self.low, self.estimate, self.high))
        about = f"{low} to {high} {self.kind.phrase}" if self.kind else "no interval"
        return f"{estimate} points ({about}, {self.examples:,} images)"


def paired_difference(first: CaseResult, second: CaseResult, tail: float = intervals.TAIL) -> Difference:
    """Accuracy of ``first`` less that of ``second``, each end erring with probability ``tail``.

    Raises:
        NotPaired: no outcomes, or no images or draws in common.
    """
    if (first.in_random_batches or second.in_random_batches) and first.cell and second.cell:
        return _in_random_batches(first, second, tail)
    own = in_own_batches(first, second, tail)
    if all((side := row.interval()) and side.kind for row in (first, second)):
        alone = first.case.threat.one_victim or second.case.threat.one_victim
        return replace(own, kind=IntervalKind.EVALUATED_IMAGES) if alone else own
    return replace(own, low=-1.0, high=1.0, kind=None)


def in_own_batches(first: CaseResult, second: CaseResult, tail: float = intervals.TAIL) -> Difference:
    """The difference in the very batches that were attacked, as if all answers were given one by one.

    Raises:
        NotPaired: no outcomes, or no images or draws in common.
    """
    own, other = shared_cells(first, second)
    left, right = own.correct, other.correct
    shares = float(left.mean()), float(right.mean())
    alone = first.case.threat.one_victim or second.case.threat.one_victim
    # Each victim has its own batch; else the larger ones count, where their sizes differ.
    batch = own.example if alone else min(own.batch, other.batch, key=lambda b: len(np.unique(b)))
    low, high = independent_difference(left, right, batch, tail / max(first.looks, second.looks, 1))
    return Difference(shares[0] - shares[1], low, high, *shares, len(own.example))


def _in_random_batches(first: CaseResult, second: CaseResult, tail: float) -> Difference:
    """The difference where at least one of the rows is in random batches of the evaluated images."""
    of = (first, second) if first.in_random_batches else (second, first)
    if of[1].randomised or of[1].batch_dependent:
        tail = tail / 2
    own, scored = of[0].played(tail)
    if of[1].in_random_batches:
        beside, others = of[1].played(tail)
        if not np.array_equal(_drawn_from(of[0], scored), _drawn_from(of[1], others)):
            beside = replace(beside, kind=None)
    else:
        beside = _on_images(of[1], scored.images, of[0].case.threat.one_victim, tail)
    left, right = (own, beside) if first.in_random_batches else (beside, own)
    known = left.kind is not None and right.kind is not None
    low, high = (left.low - right.high, left.high - right.low) if known else (-1.0, 1.0)
    return Difference(
        left.estimate - right.estimate,
        low,
        high,
        left.estimate,
        right.estimate,
        min(left.images, right.images),
        IntervalKind.EVALUATED_IMAGES if known else None,
        own=None if of[0].case.threat.one_victim else _as_attacked(first, second),
    )


def _as_attacked(first: CaseResult, second: CaseResult) -> float:
    """The difference on common images, whatever the draws: in the batches that the attackers made."""
    own, other = shared_cells(replace(first, randomised=False), replace(second, randomised=False))
    return float(own.correct.mean() - other.correct.mean())


def _drawn_from(row: CaseResult, scored: RandomBatches) -> NDArray[np.int64]:
    """The images that a row's random batches were drawn from, of which small ones miss some: all of the row's
    own, unless half of these or more were not scored, as sample sizes double.
    """
    assert row.cell is not None
    own = row.cell.example
    drawn = 2 * len(scored.images) > len(own) and np.isin(scored.images, own).all()
    return own if drawn else scored.images


def _on_images(row: CaseResult, images: NDArray[np.int64], victims: bool, tail: float) -> Interval:
    """The accuracy of a row on the images that another was scored on in random batches.

    A deterministic answer to each input is known there without an error. Victims are a random sample of all
    images.
    """
    assert row.cell is not None
    known = row.cell
    if not victims:
        shared = common([known.example, images])
        if not len(shared):
            raise NotPaired("they have no examples in common")
        known = known.at_examples(shared)
    accuracy, count = float(known.correct.mean()), len(known.example)
    own = replace(row, cell=known).interval(tail)
    assert own is not None
    if own.kind is None or (not victims and count < len(images)):
        return Interval(accuracy, 0.0, 1.0, None, count)
    ends = (own.low, own.high) if row.randomised else (accuracy, accuracy)
    return Interval(accuracy, *ends, IntervalKind.EVALUATED_IMAGES, count)


def independent_difference(
    left: NDArray[np.bool_], right: NDArray[np.bool_], batch: NDArray[np.int64], tail: float
) -> tuple[float, float]:
    """The interval where both rows answer their inputs one by one.

    Args:
        left, right: [images, draws], whether each answer is right; the draws of both may differ in number.
        batch: [images], of which each may have shared its draws with others.
        tail: with which probability each end may err.
    """
    left, right = np.broadcast_arrays(left, right)
    parts = (left & ~right, right & ~left)
    gained, lost = (_alone(part, batch, tail) for part in parts)
    both = float(np.mean(parts[0].mean(axis=1) * parts[1].mean(axis=1)))
    estimate = float(left.mean() - right.mean())
    below, above = _reach(gained, lost, both), _reach(lost, gained, both)
    return max(estimate - below, -1.0), min(estimate + above, 1.0)


class _Alone(NamedTuple):
    """The share of answers that one side alone has right, with its exact interval.

    Attributes:
        worth: of how many answers that is, as a fraction of the images.
        tied: the fraction of its variance that it owes to draws shared by a batch.
    """

    share: float
    low: float
    high: float
    worth: float
    tied: float


def _alone(part: NDArray[np.bool_], batch: NDArray[np.int64], tail: float) -> _Alone:
    share, worth = float(part.mean()), intervals.answers_worth(part, batch, tail)
    low, high = intervals.clopper_pearson(share * worth, worth, tail)
    tied = intervals.shared_variance(part, batch) * worth / max(share * (1 - share), _TINY)
    return _Alone(share, low, high, worth / len(part), min(tied, 1.0))


def _reach(first: _Alone, other: _Alone, both: float) -> float:
    """How far ``first`` less ``other`` may lie below its estimate.

    No image can be right on one side alone twice, so the two shares fall as the other rises. Their
    correlation is the most negative one within these ends, which is at the upper end of ``other``: -1 where
    all images differ, even if none is seen on one of the sides. And whatever a draw that a batch shares adds
    to one share, it may take from the other.

    Args:
        both: the product of an image's two shares, on average: 0 where no image has both.
    """
    down, up, x, y = first.share - first.low, other.high - other.share, first.share, other.high
    of_images = (both - x * y) / max(math.sqrt(x * (1 - x) * y * (1 - y)), _TINY)
    of_images = min(max(of_images, -1.0), 1.0) * math.sqrt(first.worth * other.worth)
    r = max(of_images - math.sqrt(first.tied * other.tied), -1.0)
    return math.sqrt(max(down**2 + up**2 - 2 * r * down * up, 0.0))


def shared_cells(first: CaseResult, second: CaseResult) -> tuple[Cell, Cell]:
    """The answers of both to the images that they share, in the draws that they share if both are random.

    Raises:
        NotPaired: no outcomes, or no images or draws in common.
    """
    own, other = first.cell, second.cell
    if own is None or other is None:
        raise NotPaired("a row without outcomes cannot be compared")
    example = common([own.example, other.example])
    if not len(example):
        raise NotPaired("they have no examples in common")
    own, other = own.at_examples(example), other.at_examples(example)
    if first.randomised and second.randomised:
        draw = common([own.draw, other.draw])
        if not len(draw):
            raise NotPaired("they have no draws in common")
        own, other = own.at_draws(draw), other.at_draws(draw)
    return own, other
