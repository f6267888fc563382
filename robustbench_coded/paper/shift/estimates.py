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
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.judge.run import RunData
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
        cells: of each set; the examples of a collection come in one order.
        clustered: whether the answers of a batch may depend on one another, by co-batched inputs or by the
            draw that they share.
    """

    subject: Subject
    cells: dict[ShiftSet, Cell]
    clustered: bool

    def values(self, sets: Sequence[ShiftSet]) -> NDArray[np.float64]:
        """[examples]: the share of right answers in these sets of one collection and in all draws."""
        return np.mean([self.cells[one].correct.mean(axis=1) for one in sets], axis=0)

    def units(self, other: "Answers", sets: Sequence[ShiftSet]) -> NDArray[np.int64]:
        """[examples]: the batches, the largest of both sides' if answers depend on them; else single ones."""
        batches = [side.cells[sets[0]].batch for side in (self, other) if side.clustered]
        return min(batches, key=lambda batch: len(np.unique(batch)), default=self.cells[sets[0]].example)


class ShiftEstimate(NamedTuple):
    """A figure and its interval; None where a single unit says nothing about its spread."""

    value: float
    low: float | None
    high: float | None


def accuracy(answers: Answers, sets: Sequence[ShiftSet]) -> ShiftEstimate:
    """Mean over the examples, sets and draws."""
    if answers.clustered or len(sets) > 1:
        return _mean(answers.values(sets), answers.units(answers, sets), (0.0, 1.0))
    cell = answers.cells[sets[0]]
    exact = intervals.accuracy_interval(cell.correct, cell.batch, batch_dependent=False, randomised=False)
    return ShiftEstimate(exact.estimate, exact.low, exact.high)


def difference(answers: Answers, other: Answers, sets: Sequence[ShiftSet]) -> ShiftEstimate:
    """Accuracy less that of ``other``."""
    apart = answers.values(sets) - other.values(sets)
    return _mean(apart, answers.units(other, sets), (-1.0, 1.0))


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
    _, low, high = _mean(np.mean(slopes, axis=0), answers.units(baseline, sets), within)
    if low is None or high is None:
        return ShiftEstimate(value, None, None)
    return ShiftEstimate(value, max(value + low, 0.0), value + high)


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
    """The figures of one subject.

    Attributes:
        over: the set's name, or what the mean is over: ``mean of 15``, ``mean of 19``, ``severity 3`` ...
        severity: None for a mean over severities, 0 where there is none.
        difference: accuracy less that of the baseline, which is the first checkpoint's standard inference.
        error: the mean corruption error; both are None of what they are not measured of.
        paper: the paper's accuracy as a fraction, None without one.
    """

    subject: Subject
    collection: str
    over: str
    severity: int | None
    accuracy: ShiftEstimate
    difference: ShiftEstimate | None
    error: ShiftEstimate | None
    examples: int
    sets: int
    draws: int
    paper: float | None

    @property
    def is_mean(self) -> bool:
        """True of a mean over corruptions, and of a set that has no severity."""
        return self.severity == 0 or self.over.startswith("mean")

    def as_data(self) -> Iterator[dict[str, object]]:
        """A flat object for each figure, for ``--json`` and shift.csv."""
        figures = {"accuracy": self.accuracy, "difference": self.difference, "corruption_error": self.error}
        about = {name: getattr(self, name) for name in ("collection", "over", "severity")}
        counts = {name: getattr(self, name) for name in ("examples", "sets", "draws")}
        for figure, estimate in figures.items():
            if estimate is not None:
                value = {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high}
                paper = {"paper": self.paper if figure == "accuracy" else None}
                yield {**structs.asdict(self.subject), **about, "figure": figure, **value, **counts, **paper}


@dataclass(frozen=True, eq=False)
class ShiftRun:
    """The evaluations of all sets.

    Attributes:
        path: the folder of the report.
        runs: of each set, in the order of reports.
    """

    path: Path
    runs: Mapping[ShiftSet, RunData]

    @property
    def manifest(self) -> RunManifest:
        """That of the first set."""
        return next(iter(self.runs.values())).manifest

    @property
    def collections(self) -> dict[str, list[ShiftSet]]:
        """The sets of each collection, in their order."""
        names = dict.fromkeys(one.collection for one in self.runs)
        return {name: [one for one in self.runs if one.collection == name] for name in names}

    @cached_property
    def answers(self) -> dict[Subject, Answers]:
        """Of every subject, from the sets that have all of them."""
        found: dict[Subject, Answers] = {}
        for one, run in self.runs.items():
            for row in (row for row in run.results if row.case.attack == words.CLEAN):
                subject, clustered = row.case.subject, row.batch_dependent or row.randomised
                own = found.setdefault(subject, Answers(subject, {}, clustered))
                if row.cell is not None and row.complete:
                    own.cells[one] = row.cell
        return found

    @property
    def incomplete(self) -> list[Subject]:
        """The subjects without answers to some set, which no figure is about."""
        return [subject for subject, own in self.answers.items() if len(own.cells) < len(self.runs)]

    @property
    def baseline(self) -> Answers | None:
        """The first checkpoint's standard inference, if its answers are there."""
        subject = Subject(self.manifest.checkpoints[0].name, words.STANDARD, None, None)
        return None if subject in self.incomplete else self.answers.get(subject)

    @cached_property
    def rows(self) -> list[Row]:
        """All figures, by subject, collection and set."""
        whole = [own for subject, own in self.answers.items() if subject not in self.incomplete]
        return [row for own in whole for name in self.collections for row in self._rows(own, name)]

    def _rows(self, own: Answers, collection: str) -> Iterator[Row]:
        base, sets, training = self.baseline, self.collections[collection], None
        if own.subject.defence == words.STANDARD:
            training = trainings(self.manifest).get(own.subject.checkpoint)
        groups: list[tuple[str, int | None, list[ShiftSet]]] = [
            *((one.name, one.severity, [one]) for one in sets),
            *((over, None, chosen) for over, chosen in means_of(sets).items()),
        ]
        for over, severity, chosen in groups:
            less = error = None
            if base is not None and base is not own and not severity:
                less = difference(own, base, chosen)
            if base is not None and severity is None and over.startswith("mean"):
                error = corruption_error(own, base, chosen)
            first = own.cells[chosen[0]]
            counts = (len(first.example), len(chosen), len(first.draw))
            papers = table5().get(_PAPERS.get((collection, over), ""), {}).get(training)
            paper = papers and round(papers[0] / 100, 6)
            about = (own.subject, collection, over, severity)
            yield Row(*about, accuracy(own, chosen), less, error, *counts, paper)


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
