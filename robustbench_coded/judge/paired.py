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

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.judge import intervals
from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.ensemble import common
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.schema.words import IntervalKind


class NotPaired(ValueError):
    """Two rows have no examples, batches or draws in common; the message says which."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first row less that of the second, as fractions: -1 <= low <= estimate <= high <= 1.

    Attributes:
        first, second: the two accuracies.
        examples: images that both rows answered, from which all figures come.
        kind: what ``low`` and ``high`` are about; None where nothing bounds the difference.
    """

    estimate: float
    low: float
    high: float
    first: float
    second: float
    examples: int
    kind: IntervalKind | None = IntervalKind.POPULATION

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
    sides = (own, beside) if first.in_random_batches else (beside, own)
    shares = sides[0].estimate, sides[1].estimate
    images = min(side.images for side in sides)
    if any(side.kind is None for side in sides):
        return Difference(shares[0] - shares[1], -1.0, 1.0, *shares, images, None)
    low, high = sides[0].low - sides[1].high, sides[0].high - sides[1].low
    return Difference(shares[0] - shares[1], low, high, *shares, images, IntervalKind.EVALUATED_IMAGES)


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
    reaches = []
    for part in parts:
        share, worth = float(part.mean()), intervals.answers_worth(part, batch, tail)
        low, high = intervals.clopper_pearson(share * worth, worth, tail)
        reaches.append((share - low, high - share, np.sqrt(share * (1 - share) / worth)))
    (down, up, deviation), (other_down, other_up, other_deviation) = reaches
    r = 0.0
    if deviation * other_deviation > 0 and len(left) > 1:
        # An image counts as one answer, which varies more than its mean: so what both have in common is less.
        of_images = np.cov(*(part.mean(axis=1) for part in parts))[0, 1] / len(left)
        r = float(np.clip(of_images / (deviation * other_deviation), -1, 1))
    below, above = _joined(down, other_up, r), _joined(up, other_down, r)
    estimate = float(left.mean() - right.mean())
    return max(estimate - below, -1.0), min(estimate + above, 1.0)


def _joined(first: float, other: float, correlation: float) -> float:
    """How far a difference may reach when its two terms reach ``first`` and ``other``."""
    return float(np.sqrt(max(first**2 + other**2 - 2 * correlation * first * other, 0.0)))


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
