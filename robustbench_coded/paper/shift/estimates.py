"""Means over the sets of a shift run, differences between two subjects, and mean corruption errors, with 95%
intervals; and the paper's accuracies beside them.

The corruptions are fixed and the examples are a sample: every example has one value, the mean over sets and
draws, and the interval is Student's of the mean over examples. As soon as an inference is random or answers
in batches, whole batches are the units. `judge.intervals` would count a mean over many sets as one answer,
and gives none of batches that are answered together. A single set of answers given one by one has its exact
interval. Where all examples have one value, but for a few, their spread says nothing of those that were not
seen: n units may have missed a share of up to 1 - TAIL^(1/n).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from robustbench_coded.judge import intervals
from robustbench_coded.judge.run import Run
from robustbench_coded.paper.shift.corruptions import MAIN, SEVERITIES
from robustbench_coded.paper.shift.sets import ShiftSet
from robustbench_coded.paper.studies.beside_paper import printed, trainings
from robustbench_coded.paper.studies.over_seeds import spread
from robustbench_coded.schema import words
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import RunManifest

FEW_EXAMPLES = 5  # of another value than all others: too few to measure a spread on
DECIMALS = 12  # to which sums in another order agree


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one checkpoint behind one inference to unperturbed inputs.

    Attributes:
        right: for each set [examples, draws], whether an answer is right. The examples of a collection come
            in one order.
        batch: [examples], which batch of its set each was answered in.
        clustered: whether the answers of a batch may depend on one another, by co-batched inputs or by the
            draw that they share.
    """

    subject: Subject
    right: Mapping[ShiftSet, NDArray[np.bool_]]
    batch: Mapping[ShiftSet, NDArray[np.int64]]
    clustered: bool

    def values(self, sets: Sequence[ShiftSet]) -> NDArray[np.float64]:
        """[examples]: the mean over these sets of one collection, and over draws."""
        return np.concatenate([self.right[one] for one in sets], axis=1).mean(axis=1)


class ShiftEstimate(NamedTuple):
    """A figure and its interval; None where a single unit says nothing about its spread."""

    value: float
    low: float | None
    high: float | None


def accuracy(answers: Answers, sets: Sequence[ShiftSet]) -> ShiftEstimate:
    """Mean over the examples, sets and draws."""
    if answers.clustered or len(sets) > 1:
        return _mean(answers.values(sets), _units(sets, answers), (0.0, 1.0))
    right, batch = answers.right[sets[0]], answers.batch[sets[0]]
    exact = intervals.accuracy_interval(right, batch, batch_dependent=False, randomised=False)
    return ShiftEstimate(exact.estimate, exact.low, exact.high)


def difference(answers: Answers, other: Answers, sets: Sequence[ShiftSet]) -> ShiftEstimate:
    """Accuracy less that of ``other``."""
    apart = answers.values(sets) - other.values(sets)
    return _mean(apart, _units(sets, answers, other), (-1.0, 1.0))


def corruption_error(answers: Answers, baseline: Answers, sets: Sequence[ShiftSet]) -> ShiftEstimate | None:
    """Mean corruption error (arXiv 1903.12261, section 3): errors over severities divided by the baseline's.

    Returns:
        the mean over the corruptions of ``sets``, 1 for the baseline itself; None where the baseline has no
        error to divide by.
    """
    ratios, slopes, scales = [], [], []
    for name in dict.fromkeys(one.name for one in sets):
        chosen = [one for one in sets if one.name == name]
        errors, base = 1 - answers.values(chosen), 1 - baseline.values(chosen)
        if base.mean() == 0:
            return None
        ratios.append(errors.mean() / base.mean())
        scales.append(1 / base.mean())
        slopes.append((errors - ratios[-1] * base) * scales[-1])  # of the ratio, by example
    value = float(np.mean(ratios))
    if answers is baseline:
        return ShiftEstimate(value, value, value)
    within = -float(np.mean(np.multiply(ratios, scales))), float(np.mean(scales))
    _, low, high = _mean(np.mean(slopes, axis=0), _units(sets, answers, baseline), within)
    if low is None or high is None:
        return ShiftEstimate(value, None, None)
    return ShiftEstimate(value, max(value + low, 0.0), value + high)


def _units(sets: Sequence[ShiftSet], *sides: Answers) -> NDArray[np.int64]:
    """[examples]: of a side whose answers depend on their batches, these batches; else single examples."""
    return next(
        (side.batch[sets[0]] for side in sides if side.clustered), np.arange(len(sides[0].values(sets)))
    )


def _mean(
    values: NDArray[np.floating], unit: NDArray[np.int64], within: tuple[float, float]
) -> ShiftEstimate:
    """Mean of values [examples] and Student's interval over units, of whatever sizes.

    Args:
        within: the range of a value.
    """
    mean = float(values.mean())
    sums = np.bincount(np.unique(unit, return_inverse=True)[1], values - mean)
    _, low, high, units = spread(mean + sums * len(sums) / len(values))
    if low is None or high is None:
        return ShiftEstimate(mean, None, None)
    others = len(values) - np.unique(values.round(DECIMALS), return_counts=True)[1].max()
    if others <= FEW_EXAMPLES:  # examples that were not seen may be at either end of the range
        unseen = intervals.clopper_pearson(0, units, intervals.TAIL)[1]
        low = min(low, mean - unseen * (mean - within[0]))
        high = max(high, mean + unseen * (within[1] - mean))
    return ShiftEstimate(mean, max(low, within[0]), min(high, within[1]))


# Collections and what their mean is over -> what the paper's table calls them. It does not say which version
# of CIFAR-10.1.
_PAPERS = {
    ("CIFAR-10-C (ours)", "mean of 19"): "CIFAR-10-C",
    ("CIFAR-10-C (published)", "mean of 19"): "CIFAR-10-C",
    ("CIFAR-10.1", "v4"): "CIFAR-10.1",
    ("CIFAR-10.1", "v6"): "CIFAR-10.1",
    ("CIFAR-10.2", "test"): "CIFAR-10.2",
    ("ImageNet-R", "test"): "ImageNet-R",
}


def table5() -> dict[str, Any]:
    """Table 5 as printed, in percent."""
    return printed("shift")


class Row(NamedTuple):
    """One figure of one subject.

    Attributes:
        over: the set's name, or what the mean is over: ``mean of 15``, ``mean of 19``, ``severity 3`` ...
        severity: None for a mean over severities, 0 where there is none.
        figure: ``accuracy``, ``difference`` or ``corruption_error``; the last two are relative to the
            baseline's standard inference.
        paper: the paper's accuracy as a fraction, None without one.
    """

    subject: Subject
    collection: str
    over: str
    severity: int | None
    figure: str
    estimate: ShiftEstimate
    examples: int
    sets: int
    draws: int
    paper: float | None = None

    def as_data(self) -> dict[str, object]:
        """One flat object, for ``--json``."""
        figures = dict(zip(("value", "ci_low", "ci_high"), self.estimate, strict=True))
        rest = {name: value for name, value in self._asdict().items() if name not in ("subject", "estimate")}
        return {**structs.asdict(self.subject), **rest, **figures}


@dataclass(frozen=True, eq=False)
class ShiftRun:
    """The evaluations of all sets.

    Attributes:
        path: the folder of the report.
        runs: of each set, in the order of reports.
        baseline: the checkpoint whose standard inference errors are divided by, and others are compared with.
    """

    path: Path
    runs: Mapping[ShiftSet, Run]
    baseline: str

    @property
    def manifest(self) -> RunManifest:
        """That of the first set."""
        return next(iter(self.runs.values())).manifest

    def sets(self, collection: str) -> list[ShiftSet]:
        """The sets of a collection, in their order."""
        return [one for one in self.runs if one.collection == collection]

    @cached_property
    def answers(self) -> dict[Subject, Answers | None]:
        """Of every subject; None where a set lacks some."""
        results = {
            one: {r.case.subject: r for r in run.results if r.case.attack == words.CLEAN}
            for one, run in self.runs.items()
        }
        found: dict[Subject, Answers | None] = {}
        for subject, row in next(iter(results.values())).items():
            own = {one: rows[subject] for one, rows in results.items() if subject in rows}
            cells = {one: r.cell for one, r in own.items() if r.cell is not None and r.complete}
            right = {one: cell.correct for one, cell in cells.items()}
            batch = {one: cell.batch for one, cell in cells.items()}
            clustered = row.batch_dependent or row.randomised
            found[subject] = Answers(subject, right, batch, clustered) if len(cells) == len(results) else None
        return found

    @property
    def base(self) -> Answers | None:
        """The baseline's standard inference, if its answers are there."""
        return self.answers.get(Subject(self.baseline, words.STANDARD, None, None))

    @cached_property
    def rows(self) -> list[Row]:
        """All figures, by subject, collection and set."""
        return [
            row
            for answers in filter(None, self.answers.values())
            for collection in dict.fromkeys(one.collection for one in self.runs)
            for row in self._rows(answers, collection)
        ]

    def _rows(self, answers: Answers, collection: str) -> Iterator[Row]:
        subject, base, sets = answers.subject, self.base, self.sets(collection)
        training = (
            trainings(self.manifest).get(subject.checkpoint) if subject.defence == words.STANDARD else None
        )
        groups: list[tuple[str, int | None, list[ShiftSet]]] = [
            *((one.name, one.severity, [one]) for one in sets),
            *((over, None, chosen) for over, chosen in means_of(sets).items()),
        ]
        for over, severity, chosen in groups:
            papers = table5().get(_PAPERS.get((collection, over), ""), {}).get(training)
            paper = papers and round(papers[0] / 100, 6)
            examples, draws = answers.right[chosen[0]].shape
            about, counts = (subject, collection, over, severity), (examples, len(chosen), draws)
            yield Row(*about, "accuracy", accuracy(answers, chosen), *counts, paper)
            if base is not None and base is not answers and not severity:
                yield Row(*about, "difference", difference(answers, base, chosen), *counts)
            if base is not None and severity is None and over.startswith("mean"):
                error = corruption_error(answers, base, chosen)
                if error is not None:
                    yield Row(*about, "corruption_error", error, *counts)


def means_of(sets: Sequence[ShiftSet]) -> dict[str, list[ShiftSet]]:
    """Groups for means: the corruptions that the mean corruption error is defined on, all of them,
    each corruption, each severity. Parts that are not complete are called so."""
    corrupted = [one for one in sets if one.severity]
    if not corrupted:
        return {}
    names = list(dict.fromkeys(one.name for one in corrupted))
    means = {}
    if {*MAIN} <= {*names}:
        means["mean of 15"] = [one for one in corrupted if one.name in MAIN]
    if len(names) != len(MAIN):
        means[f"mean of {len(names)}"] = corrupted
    for name in names if len({one.severity for one in corrupted}) > 1 else ():
        means[name] = [one for one in corrupted if one.name == name]
    for severity in SEVERITIES:
        chosen = [one for one in corrupted if one.severity == severity]
        if chosen and len(names) > 1:
            means[f"severity {severity}"] = chosen
    return means
