"""How far sets that are made here agree with the published ones of the same name, in a run that has both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustbench_coded.reports.text.formatting import interval, percent
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.shift.answers import Answers, ShiftRun
from robustbench_coded.shift.estimates import Estimate, accuracy, unpaired_difference
from robustbench_coded.shift.facts import SetFacts
from robustbench_coded.shift.rows import baseline_of

MADE, PUBLISHED = "CIFAR-10-C (ours)", "CIFAR-10-C (published)"
ALL = "all of these"


class Agreement(NamedTuple):
    """One corruption, at the severities that both have.

    Attributes:
        means, deviations: of the pixel values, made and published, from 0 to 255, over severities.
        accuracies: of the baseline's standard inference, made and published.
        difference: the published accuracy less that on the sets made here.
    """

    corruption: str
    means: tuple[float, float]
    deviations: tuple[float, float]
    accuracies: tuple[float, float]
    difference: Estimate


def agreements(run: ShiftRun) -> list[Agreement]:
    """Each corruption that both collections have, and all of them together; empty without both of them, or
    without the baseline's answers."""
    answers = baseline_of(run)
    made, published = (
        {(one.name, one.severity): one for one in run.sets(collection) if one.severity}
        for collection in (MADE, PUBLISHED)
    )
    pairs = [(made[key], published[key]) for key in made if key in published]
    if answers is None or not pairs:
        return []
    names = list(dict.fromkeys(one.name for one, _ in pairs))
    found = [_agreement(name, [pair for pair in pairs if pair[0].name == name], answers) for name in names]
    return [*found, _agreement(ALL, pairs, answers)] if len(names) > 1 else found


def agreement_table(found: list[Agreement]) -> TextTable:
    """A line for each corruption: pixel means, deviations and accuracies, made and published."""
    lines = tuple(
        (
            one.corruption,
            *(" / ".join(f"{value:.1f}" for value in two) for two in (one.means, one.deviations)),
            " / ".join(percent(value) for value in one.accuracies),
            _points(one.difference),
        )
        for one in found
    )
    heads = ("Corruption", "Pixel mean", "Pixel deviation", "Accuracy", "Published less ours")
    return TextTable(heads, lines, frozenset(heads[1:]))


def agreement_sentence(found: list[Agreement]) -> str:
    """How far the accuracies on both differ, on average and at most."""
    alone = [one for one in found if one.corruption != ALL]
    most = max(alone, key=lambda one: abs(one.difference.value))
    apart = [one.corruption for one in alone if _excludes_zero(one.difference)]
    said = f"Published sets less those made here: {_points(found[-1].difference)} points of accuracy"
    if len(alone) > 1:
        said += f" over {len(alone)} corruptions, at most {_points(most.difference)} ({most.corruption})"
    more = f" The interval excludes 0 for {', '.join(apart)}." if apart else " No interval excludes 0."
    return f"{said}.{more}"


def _agreement(name: str, pairs: list[tuple[SetFacts, SetFacts]], answers: Answers) -> Agreement:
    made, published = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Agreement(
        name,
        (_mean([one.mean for one in made]), _mean([one.mean for one in published])),
        (_mean([one.deviation for one in made]), _mean([one.deviation for one in published])),
        (accuracy(answers, made).value, accuracy(answers, published).value),
        unpaired_difference(answers, published, made),
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _excludes_zero(difference: Estimate) -> bool:
    return (
        difference.low is not None
        and difference.high is not None
        and (difference.low > 0 or difference.high < 0)
    )


def _points(difference: Estimate) -> str:
    return f"{100 * difference.value:+.1f} {interval(difference.low, difference.high)}".strip()
