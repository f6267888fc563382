"""Accuracies under shift, differences between two subjects, and mean corruption errors, with 95% intervals,
by subject, collection and set; and the paper's beside them.

The corruptions are fixed and the examples are a sample: every example has one value, the mean over sets and
draws, and the interval is that of the mean over examples. As soon as an inference is random or answers in
batches, whole batches are the units. A single set of answers given one by one has the exact interval of
`judge.intervals`; differences and ratios are paired over the same examples. Where all examples
have one value, but for a few, their spread says nothing of those that were not seen: n examples may have
missed a share of up to 1 - TAIL^(1/n).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from scipy.special import stdtrit

from robustbench_coded.errors import InputError
from robustbench_coded.judge import intervals, outcomes
from robustbench_coded.paper.shift.corruptions import EXTRA, MAIN, SEVERITIES
from robustbench_coded.paper.studies.beside_paper import printed, trainings
from robustbench_coded.runs.folder import read_manifest, read_run
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import CaseRecord, ManifestError, RunManifest, manifest_from
from robustbench_coded.schema.words import STANDARD

CLEAN = "clean"  # the name of a set as it is


class SetFacts(msgspec.Struct, frozen=True):
    """One set.

    Attributes:
        start: where its block begins in the run's data.
        examples: images that are scored.
        sha256: of their pixels.
    """

    collection: str
    name: str
    severity: int
    start: int
    examples: int
    sha256: str


class ShiftFacts(msgspec.Struct, frozen=True):
    """Facts that may not change within a shift run, besides the evaluation's own."""

    sets: tuple[SetFacts, ...]
    k: int
    limit: int | None
    subset: str | None
    seed: int
    baseline: str


def as_data(facts: ShiftFacts, manifest: RunManifest) -> dict[str, Any]:
    """The content of shift.json."""
    return {"shift": msgspec.to_builtins(facts), "evaluation": msgspec.to_builtins(manifest)}


def from_data(data: dict[str, Any], where: str) -> tuple[ShiftFacts, RunManifest]:
    """shift.json, checked.

    Raises:
        InputError: a part is missing or of the wrong kind.
    """
    try:
        facts = msgspec.convert(data.get("shift"), ShiftFacts)
        return facts, manifest_from(data.get("evaluation"))
    except (msgspec.ValidationError, ManifestError) as error:
        raise InputError(f"{where}: {error}; restore it, or start the run anew with --overwrite") from error


SHIFT = "shift.json"


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one checkpoint behind one inference.

    Attributes:
        right: for each set [examples, draws], whether an answer is right. The examples of a collection come
            in one order.
        clustered: whether the answers of a batch may depend on one another, by co-batched inputs or by the
            draw that they share.
        k: size of a batch.
    """

    subject: Subject
    right: dict[SetFacts, NDArray[np.bool_]]
    clustered: bool
    k: int

    def of(self, sets: list[SetFacts]) -> NDArray[np.bool_]:
        """[examples, sets x draws], of sets of one collection."""
        return np.concatenate([self.right[facts] for facts in sets], axis=1)

    def batches(self, examples: int) -> NDArray[np.int64]:
        """[examples], which batch of its set each was answered in."""
        return np.arange(examples) // self.k


@dataclass(frozen=True, eq=False)
class ShiftRun:
    """A folder of ``csrobust paper shift``.

    Attributes:
        answers: of every subject whose units are all there.
        missing: names of those with units that failed or have not run.
    """

    path: Path
    facts: ShiftFacts
    manifest: RunManifest
    answers: tuple[Answers, ...]
    missing: tuple[Subject, ...]

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(facts.collection for facts in self.facts.sets))

    def sets(self, collection: str) -> list[SetFacts]:
        """The sets of a collection, in their order."""
        return [facts for facts in self.facts.sets if facts.collection == collection]


def load_shift(path: Path) -> ShiftRun:
    """Reads a folder of ``csrobust paper shift``.

    Raises:
        InputError: it is none, or shift.json is not usable.
    """
    facts, manifest = from_data(read_manifest(path, SHIFT), f"{path}/{SHIFT}")
    frame, _, _ = read_run(path, manifest.unit_ids)
    cells = {} if frame.empty else outcomes.cells(frame)
    answers, missing = [], []
    for case in manifest.cases:
        right = _right(case, facts, cells)
        if right is None:
            missing.append(case.case.subject)
        else:
            clustered = case.batch_dependent or case.randomised
            answers.append(Answers(case.case.subject, right, clustered, facts.k))
    if not manifest.cases:
        raise InputError(f"{path}/{SHIFT} plans nothing; start the run anew with --overwrite")
    return ShiftRun(path, facts, manifest, tuple(answers), tuple(missing))


def _right(case: CaseRecord, facts: ShiftFacts, cells: dict) -> dict[SetFacts, NDArray[np.bool_]] | None:
    """Both kinds of draws side by side; None where answers are missing."""
    parts = [
        cells[case.case, purpose] for purpose in ("selection", "scoring") if (case.case, purpose) in cells
    ]
    if len(parts) != (2 if case.randomised else 1):
        return None
    right = {}
    for shift in facts.sets:
        wanted = np.arange(shift.start, shift.start + shift.examples)
        pieces = []
        for cell in parts:
            rows = np.searchsorted(cell.example, wanted)
            if rows[-1] >= len(cell.example) or (cell.example[rows] != wanted).any():
                return None
            pieces.append(cell.correct[rows])
        right[shift] = np.concatenate(pieces, axis=1)
    return right


FEW_EXAMPLES = 5  # of another value than all others: too few to measure a spread on
DECIMALS = 12  # to which sums in another order agree


class ShiftEstimate(NamedTuple):
    """A figure and its interval; None where a single unit says nothing about its spread."""

    value: float
    low: float | None
    high: float | None


def accuracy(answers: Answers, sets: list[SetFacts]) -> ShiftEstimate:
    """Mean over the examples, sets and draws."""
    correct = answers.of(sets)
    batch = answers.batches(len(correct))
    if answers.clustered:
        return _mean(correct.mean(axis=1), batch, len(np.unique(batch)), (0.0, 1.0))
    if len(sets) == 1:
        interval = intervals.accuracy_interval(correct, batch, batch_dependent=False, randomised=False)
        return ShiftEstimate(interval.estimate, interval.low, interval.high)
    return _share(correct.mean(axis=1))


def difference(answers: Answers, other: Answers, sets: list[SetFacts]) -> ShiftEstimate:
    """Accuracy less that of ``other``."""
    left, right = answers.of(sets), other.of(sets)
    unit = _units(answers, other, len(left))
    return _mean(left.mean(axis=1) - right.mean(axis=1), unit, len(np.unique(unit)), (-1.0, 1.0))


def corruption_error(answers: Answers, baseline: Answers, sets: Sequence[SetFacts]) -> ShiftEstimate | None:
    """Mean corruption error (arXiv 1903.12261, section 3): errors over severities divided by the baseline's.

    Returns:
        the mean over the corruptions of ``sets``, 1 for the baseline itself; None where the baseline has no
        error to divide by.
    """
    by_name: dict[str, list[SetFacts]] = {}
    for facts in sets:
        by_name.setdefault(facts.name, []).append(facts)
    ratios, slopes, scales = [], [], []
    for chosen in by_name.values():
        errors = 1 - answers.of(chosen).mean(axis=1)
        base = 1 - baseline.of(chosen).mean(axis=1)
        if base.mean() == 0:
            return None
        ratio = errors.mean() / base.mean()
        ratios.append(ratio)
        slopes.append((errors - ratio * base) / base.mean())  # of the ratio, by example
        scales.append(1 / base.mean())
    value = float(np.mean(ratios))
    if answers is baseline:
        return ShiftEstimate(value, value, value)
    slope = _mean(
        np.mean(slopes, axis=0),
        units := _units(answers, baseline, len(slopes[0])),
        len(np.unique(units)),
        (-float(np.mean(np.multiply(ratios, scales))), float(np.mean(scales))),
    )
    if slope.low is None or slope.high is None:
        return ShiftEstimate(value, None, None)
    return ShiftEstimate(value, max(value + slope.low, 0.0), value + slope.high)


def _units(own: Answers, other: Answers, examples: int) -> NDArray[np.int64]:
    """[examples]: single examples where neither side's answers depend on a batch, else the smallest groups
    that are whole batches on every side whose answers do."""
    sizes = [side.k for side in (own, other) if side.clustered]
    return np.arange(examples) // math.lcm(*sizes)


def _share(values: NDArray[np.floating]) -> ShiftEstimate:
    """Mean of shares [examples] in [0, 1]: Clopper and Pearson's with the effective number of examples."""
    examples, mean = len(values), float(values.mean())
    low, high = _with_unseen(values, examples, (0.0, 1.0))
    if np.ptp(values) < 10.0**-DECIMALS:
        return ShiftEstimate(mean, low, high)
    variance = float(values.var(ddof=1)) / examples * intervals.student_factor(examples - 1, intervals.TAIL)
    effective = mean * (1 - mean) / variance
    exact = intervals.clopper_pearson(mean * effective, effective, intervals.TAIL)
    return ShiftEstimate(mean, min(exact[0], low), max(exact[1], high))


def _mean(
    values: NDArray[np.floating], unit: NDArray[np.int64], seen: float, within: tuple[float, float]
) -> ShiftEstimate:
    """Mean of values and Student's interval over units, of whatever sizes.

    Args:
        seen: how many independent units the values are of. within: the range of a value.
    """
    mean = float(values.mean())
    sums = np.bincount(unit, values - mean)
    units = len(sums)
    if units < 2:
        return ShiftEstimate(mean, None, None)
    deviation = np.sqrt(units / (units - 1) * float((sums**2).sum())) / len(values)
    reach = float(stdtrit(units - 1, 1 - intervals.TAIL)) * deviation
    low, high = _with_unseen(values, seen, within)
    low, high = np.clip((min(mean - reach, low), max(mean + reach, high)), *within)
    return ShiftEstimate(mean, float(low), float(high))


def _with_unseen(
    values: NDArray[np.floating], seen: float, within: tuple[float, float]
) -> tuple[float, float]:
    """What the mean may be if examples that were not seen are at either end of a range.

    The mean itself where the examples differ enough to show what others may be like.
    """
    mean = float(values.mean())
    others = len(values) - int(np.unique(values.round(DECIMALS), return_counts=True)[1].max())
    if others > FEW_EXAMPLES:
        return mean, mean
    unseen = intervals.clopper_pearson(0, seen, intervals.TAIL)[1]
    return mean - unseen * (mean - within[0]), mean + unseen * (within[1] - mean)


# What the paper calls our collections, and what its figures are over. It does not say which version of
# CIFAR-10.1.
_PAPERS = {
    "CIFAR-10-C (ours)": ("CIFAR-10-C", ("mean of 19",)),
    "CIFAR-10-C (published)": ("CIFAR-10-C", ("mean of 19",)),
    "CIFAR-10.1": ("CIFAR-10.1", ("v4", "v6")),
    "CIFAR-10.2": ("CIFAR-10.2", ("test",)),
    "ImageNet-R": ("ImageNet-R", ("test",)),
}


def table5() -> dict[str, Any]:
    """Table 5 as printed, in percent."""
    return printed("shift")


def papers_mean(collection: str, over: str, training: str | None) -> float | None:
    """The paper's accuracy as a fraction; None where it has no such setting."""
    table, overs = _PAPERS.get(collection, ("", ()))
    if over not in overs or training not in table5()[table]:
        return None
    return round(table5()[table][training][0] / 100, 6)


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


def rows_of(run: ShiftRun) -> list[Row]:
    """All rows, by subject, collection and set."""
    baseline = baseline_of(run)
    training = trainings(run.manifest)
    rows = []
    for answers in run.answers:
        subject = answers.subject
        papers = training.get(subject.checkpoint) if subject.defence == STANDARD else None
        for collection in run.collections:
            sets = run.sets(collection)
            draws = answers.right[sets[0]].shape[1]
            groups: list[tuple[str, int | None, list[SetFacts]]] = [
                *((facts.name, facts.severity, [facts]) for facts in sets),
                *((over, None, chosen) for over, chosen in means_of(sets).items()),
            ]
            for over, severity, chosen in groups:
                found: dict[str, ShiftEstimate | None] = {"accuracy": accuracy(answers, chosen)}
                if baseline is not None and baseline is not answers and not severity:
                    found["difference"] = difference(answers, baseline, chosen)
                if baseline is not None and severity is None and over.startswith("mean"):
                    found["corruption_error"] = corruption_error(answers, baseline, chosen)
                for figure, estimate in found.items():
                    if estimate is not None:
                        paper = papers_mean(collection, over, papers) if figure == "accuracy" else None
                        about = (subject, collection, over, severity, figure, estimate)
                        rows.append(Row(*about, chosen[0].examples, len(chosen), draws, paper))
    return rows


def baseline_of(run: ShiftRun) -> Answers | None:
    """The named checkpoint's standard inference."""
    subject = Subject(run.facts.baseline, STANDARD, None, None)
    return next((answers for answers in run.answers if answers.subject == subject), None)


def means_of(sets: Sequence[SetFacts]) -> dict[str, list[SetFacts]]:
    """Groups for means: the corruptions that the mean corruption error is defined on, all of them,
    each corruption, each severity. Parts that are not complete are called so."""
    corrupted = [facts for facts in sets if facts.severity]
    if not corrupted:
        return {}
    names = list(dict.fromkeys(facts.name for facts in corrupted))
    main = [facts for facts in corrupted if facts.name in MAIN]
    means = {}
    if {*MAIN} <= {*names}:
        means["mean of 15"] = main
    if {*MAIN, *EXTRA} <= {*names}:
        means["mean of 19"] = corrupted
    elif len(names) != len(MAIN) or not main:
        means[f"mean of {len(names)}"] = corrupted
    for name in names if len({facts.severity for facts in corrupted}) > 1 else ():
        means[name] = [facts for facts in corrupted if facts.name == name]
    for severity in SEVERITIES:
        chosen = [facts for facts in corrupted if facts.severity == severity]
        if chosen and len(names) > 1:
            means[f"severity {severity}"] = chosen
    return means
