"""Shift runs side by side: accuracies, and differences and corruption errors beside a baseline.

Differences are paired over the same images, so every run has to hold the same ones. Sets that only some runs
hold are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_coded.errors import InputError
from robustbench_coded.reports.compare.baseline import Contender, baseline_of
from robustbench_coded.reports.compare.comparison import named_runs
from robustbench_coded.reports.compare.incompatibilities import batches_apart, settings_apart, weights_apart
from robustbench_coded.reports.paper.paper import trainings
from robustbench_coded.reports.text.formatting import series, subject_text
from robustbench_coded.runs.folder import MANIFEST
from robustbench_coded.shift.answers import Answers, ShiftRun, is_shift, load_shift
from robustbench_coded.shift.facts import SetFacts
from robustbench_coded.shift.rows import Row, rows_beside


@dataclass(frozen=True, eq=False)
class ShiftComparison:
    """What is said about several shift runs.

    Attributes:
        runs: name -> run, in the order given.
        baseline: the baseline in words.
        sets: what all runs hold, in the order of the first.
        rows: by run; differences and corruption errors are relative to the subject's counterpart in the
            baseline.
        apart: what the runs do not share, one sentence each.
        unpaired: why differences could not be formed, one sentence each.
    """

    runs: dict[str, ShiftRun]
    baseline: str
    sets: tuple[SetFacts, ...]
    rows: dict[str, list[Row]]
    apart: tuple[str, ...]
    unpaired: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """The comparison as JSON data: what ``--json`` prints."""
        return {
            "runs": {name: str(run.path) for name, run in self.runs.items()},
            "baseline": self.baseline,
            "apart": list(self.apart),
            "unpaired": list(self.unpaired),
            "figures": [{"run": name, **row.as_data()} for name, rows in self.rows.items() for row in rows],
        }


def are_shift_runs(paths: Sequence[Path]) -> bool:
    """Whether all folders are of ``csrobust shift``; False where none is.

    Raises:
        InputError: some are, and another is an evaluation under attack.
    """
    shifted = [path for path in paths if is_shift(path)]
    attacked = [path for path in paths if path not in shifted and (path / MANIFEST).is_file()]
    if shifted and attacked:
        raise InputError(
            f"{shifted[0]} was measured under shift (csrobust shift) and {attacked[0]} under attack "
            "(csrobust eval); compare runs of one kind"
        )
    return bool(shifted)


def compare_shift(paths: Sequence[str | Path], baseline: str | None = None) -> ShiftComparison:
    """Compares all subjects of some folders of ``csrobust shift``.

    Args:
        paths: run folders.
        baseline: name of a run, a checkpoint or a defence; None takes the first run, or standard inference
            where there is one run alone.

    Raises:
        InputError: no folder of ``csrobust shift``, the same one twice, a baseline that names nothing, or
            runs of different images.
    """
    runs = named_runs([load_shift(Path(path)) for path in paths])
    sets = _shared_sets(runs)
    answers = {
        Contender(name, one.subject): _on(sets, run, one) for name, run in runs.items() for one in run.answers
    }
    counterpart, words = baseline_of(
        {name: str(run.path) for name, run in runs.items()}, list(answers), baseline
    )
    unpaired = [
        f"{subject_text(subject, with_k=True)} in {name} is incomplete and left out; the command of that run "
        "completes it."
        for name, run in runs.items()
        for subject in run.missing
    ]
    named = {name: trainings(run.manifest) for name, run in runs.items()}
    collections: dict[str, list[SetFacts]] = {}
    for one in sets:
        collections.setdefault(one.collection, []).append(one)
    rows: dict[str, list[Row]] = {name: [] for name in runs}
    for contender, mine in answers.items():
        name, subject = contender
        other = counterpart(contender)
        if other is None:
            told = subject_text(subject, with_k=True)
            unpaired.append(f"{told} in {name} has no counterpart in the baseline, {words}.")
        beside = None if other is None else answers[other]
        for chosen in collections.values():
            rows[name] += rows_beside(mine, beside, chosen, named[name].get(subject.checkpoint))
    return ShiftComparison(runs, words, tuple(sets), rows, tuple(_apart(runs, sets)), tuple(unpaired))


def _key(one: SetFacts) -> tuple[str, str, int]:
    return one.collection, one.name, one.severity


def _shared_sets(runs: dict[str, ShiftRun]) -> list[SetFacts]:
    """The first run's sets that all of them hold.

    Raises:
        InputError: there are none, or they are not of the same images and labels.
    """
    (first, run), *others = runs.items()
    shared = list(run.facts.sets)
    for name, other in others:
        there = {_key(one): one for one in other.facts.sets}
        shared = [one for one in shared if _key(one) in there]
        for one in shared:
            same = there[_key(one)]
            where = f"{first} and {name}: {_text(one)}"
            if one.examples != same.examples:
                raise InputError(
                    f"{where} has {one.examples:,} and {same.examples:,} images; compare runs of the same "
                    "--limit"
                )
            if one.sha256 != same.sha256:
                raise InputError(
                    f"{where} has different images; compare runs of the same --data, --limit and --seed "
                    "(sets made here also depend on the versions of numpy, scipy and Pillow)"
                )
            mine, theirs = run.labels.get(one), other.labels.get(same)
            if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
                raise InputError(f"{where} has the same images with different labels")
    if not shared:
        each = "; ".join(f"{name}: {', '.join(run.collections)}" for name, run in runs.items())
        raise InputError(f"the runs have no set in common ({each})")
    return shared


def _on(sets: Sequence[SetFacts], run: ShiftRun, answers: Answers) -> Answers:
    """The answers to ``sets`` alone: where a set begins differs from run to run."""
    there = {_key(one): one for one in run.facts.sets}
    return replace(answers, right={one: answers.right[there[_key(one)]] for one in sets})


def _text(one: SetFacts) -> str:
    severity = f", severity {one.severity}," if one.severity else ""
    return f"{one.collection} {one.name.replace('_', ' ')}{severity}"


def _apart(runs: dict[str, ShiftRun], sets: Sequence[SetFacts]) -> list[str]:
    manifests = {name: run.manifest for name, run in runs.items()}
    device = {name: manifest.last.machine.device for name, manifest in manifests.items()}
    version = {name: manifest.last.versions.get("csrobust") for name, manifest in manifests.items()}
    said = [
        *settings_apart("the draws: seeds", {name: run.facts.seed for name, run in runs.items()}),
        *settings_apart("the device", device),
        *settings_apart("the version of csrobust", version),
        *batches_apart({name: str(run.facts.k) for name, run in runs.items()}),
        *weights_apart(manifests),
    ]
    kept = {_key(one) for one in sets}
    left: dict[str, list[str]] = {}
    for key in dict.fromkeys(_key(one) for run in runs.values() for one in run.facts.sets):
        if key not in kept:
            left.setdefault(f"{key[0]} {key[1].replace('_', ' ')}", []).append(str(key[2]))
    if left:
        names = [f"{name} {'/'.join(s)}" if s != ["0"] else name for name, s in left.items()]
        said.append(f"Left out, because some run lacks them: {series(names)}.")
    return said
