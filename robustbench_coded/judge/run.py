"""What a run folder holds, which anybody may have written, and what the judge makes of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from attacks.attack import read_attack
from attacks.norms import NORMS
from robustbench_coded.errors import InputError
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.judgements import (
    Judgement,
    is_about_standard,
    judgements_of,
    selftest_checks,
    selftest_results,
)
from robustbench_coded.judge.outcomes import DIGITS
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.summary import (
    ImagesSpent,
    SummaryRow,
    own_columns,
    summary_frame,
    summary_rows,
)
from robustbench_coded.runs import folder
from robustbench_coded.runs.log import read_log
from robustbench_coded.schema.case import KEY_COLUMNS, Case
from robustbench_coded.schema.manifest import ManifestError, RunManifest, manifest_from
from robustbench_coded.schema.words import CONTROLS, STANDARD, VerdictName


def load_manifest(path: Path) -> RunManifest:
    """run.json of a run folder, checked.

    Raises:
        InputError: no run folder, a part of run.json is missing or of the wrong kind, or it names an attack
            or a norm that this version does not know.
    """
    try:
        manifest = manifest_from(folder.read_manifest(path))
        for i, record in enumerate(manifest.cases):
            if (norm := record.case.perturbation.norm) not in NORMS:
                raise ManifestError(
                    f"cases[{i}].case.norm: {norm[:80]!r} is not a norm that this version knows"
                )
            if record.case.attack not in CONTROLS:
                _check_attack(record.case.attack, f"cases[{i}].case.attack")
    except ManifestError as error:
        raise InputError(
            f"{path}/run.json: {error}; restore it, or start the run anew with --overwrite"
        ) from error
    return manifest


def _check_attack(name: str, where: str) -> None:
    try:
        read_attack(name)
    except ValueError as error:
        raise ManifestError(f"{where}: {name[:80]!r} is not an attack that this version knows") from error


GO_ON = "the command that began it goes on with it"
COLUMNS = (
    "checkpoint", "defence", "k", "n", "threat", "norm", "eps", "eps_space", "verdict", "accuracy", "ci_low",
    "ci_high", "base_accuracy", "gain", "gain_low", "gain_high", "clean_accuracy", "open_checks", "reason",
    "interval_kind", "gain_interval_kind", "gain_examples", "own_accuracy", "own_batches",
)  # fmt: skip


def verdict_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """The verdicts as a frame; accuracies and gains are fractions, null if they do not exist.

    ``base_accuracy`` is that of the base model's ensemble on all images that it was attacked on, and
    ``gain_examples`` says how many of them ``gain`` compares.
    """
    frame = pd.DataFrame(map(verdict_line, judgements), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("k", "n", "gain_examples", "own_batches"), "Int64"))


def verdict_line(judgement: Judgement) -> dict[str, object]:
    verdict, key = judgement.verdict, judgement.case.as_columns()
    return {
        **{name: key[name] for name in COLUMNS if name in key},
        "verdict": str(verdict.name),
        **_ends(verdict.accuracy, "accuracy", "ci_low", "ci_high"),
        "base_accuracy": math.nan if verdict.base is None else round(verdict.base.estimate, DIGITS),
        **_ends(verdict.gain, "gain", "gain_low", "gain_high"),
        "clean_accuracy": math.nan if verdict.clean is None else round(verdict.clean.estimate, DIGITS),
        "open_checks": ";".join(verdict.open_checks),
        "reason": verdict.reason,
        "interval_kind": verdict.accuracy and verdict.accuracy.kind and str(verdict.accuracy.kind),
        "gain_interval_kind": verdict.gain and verdict.gain.kind and str(verdict.gain.kind),
        "gain_examples": verdict.gain and verdict.gain.examples,
        **own_columns(verdict.accuracy),
    }


def _ends(figure: Interval | Difference | None, estimate: str, low: str, high: str) -> dict[str, float]:
    """A figure and the ends of its interval under these names."""
    if figure is None:
        return dict.fromkeys((estimate, low, high), math.nan)
    ends = (figure.low, figure.high) if figure.kind else (math.nan, math.nan)
    values = zip((estimate, low, high), (figure.estimate, *ends), strict=True)
    return {name: round(value, DIGITS) for name, value in values}


@dataclass(frozen=True)
class Failure:
    """A unit that has no outcomes, and why. Its case is incomplete; its examples count as nothing.

    A planned case that has not begun has no units yet, and is one failure whose ``unit`` is ''.
    """

    case: Case
    unit: str
    error: str


def run_data(path: str | Path) -> "RunData":
    """Reads a run folder, finished or not; `load_run` says what is safe about it.

    Raises:
        InputError: not a run folder, or run.json is not usable.
    """
    return RunData(Path(path), load_manifest(Path(path)))


@dataclass(frozen=True, eq=False)
class RunData:
    """What a run folder holds, and what the judge makes of it.

    Attributes:
        path: the folder.
        manifest: the content of run.json.
    """

    path: Path
    manifest: RunManifest

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def outcomes(self) -> pd.DataFrame:
        """One row per example, attack and draw; the columns of docs/run-folder.md, 'Outcomes'."""
        return self._read[0]

    @cached_property
    def results(self) -> list[CaseResult]:
        """Every planned case and combined row with the outcomes that it is counted from."""
        faulty: dict[Case, int] = {}
        for key, unit in self._units():
            if count := int(_amount(self._read[1].get(unit, {}).get("faulty", 0))):
                faulty[key] = faulty.get(key, 0) + count
        return case_results(self.outcomes, self.manifest.cases, faulty)

    @cached_property
    def rows(self) -> list[SummaryRow]:
        """The rows of summary.csv as objects, in the order of `results`."""
        return summary_rows(self.results, self._costs)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """summary.csv: a line for each planned attack and combined row; accuracies are fractions."""
        return summary_frame(self.rows)

    @property
    def timings(self) -> pd.DataFrame:
        """Seconds of each line of `summary`, scoring included: those of its units, one after the other."""
        seconds = pd.Series([row.seconds for row in self.rows], dtype=float)
        return self.summary[list(KEY_COLUMNS)].assign(seconds=seconds)

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Units that failed, are damaged or never ran, and cases that have not begun."""
        said = read_log(self.path)
        failures = []
        for key, unit in ((of.case, unit) for of in self.manifest.cases for unit in of.all_units or ("",)):
            if unit in self._read[1]:
                continue
            reason = "its outcomes are damaged" if unit in said.done else "it has not run yet"
            error = said.failures[unit].error if unit in said.failures else reason
            failures.append(Failure(key, unit, error))
        return tuple(failures)

    @property
    def missing(self) -> str:
        """``28 of 45 planned cases lack outcomes``, or that it was stopped; '' for a complete run."""
        lacking = len({failure.case for failure in self.failures})
        if lacking:
            lack = "lacks" if lacking == 1 else "lack"
            return f"{lacking} of {len(self.manifest.cases)} planned cases {lack} outcomes"
        return "" if self.manifest.finished else "it was stopped before its end"

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """verdicts.csv: a line for each subject, threat model and perturbation; accuracies are fractions."""
        return verdict_frame(self.judgements)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """Verdict and checks per subject, threat model and perturbation.

        Nobody calls standard inference beside a defence robust. It has no negative or open verdict there,
        unless ``--defence standard`` names it.
        """
        if is_about_standard(self.manifest, (judgement.subject for judgement in self.judged)):
            return self.judged
        return tuple(
            judgement
            for judgement in self.judged
            if judgement.subject.defence != STANDARD or judgement.verdict.name == VerdictName.NO_FAILURE_FOUND
        )

    @cached_property
    def judged(self) -> tuple[Judgement, ...]:
        """`judgements`, and those of standard inference that serve as a comparison alone."""
        selftests = selftest_results(self.path, self.manifest)
        checks = {subject: selftest_checks(tests) for subject, tests in selftests.items()}
        return tuple(judgements_of(self.results, self.manifest, checks))

    def units_of(self, key: Case) -> list[str]:
        """The ids of the units of one case."""
        return [unit for of, unit in self._units() if of == key]

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        outcomes, metadata, timings = folder.read_run(self.path, self.manifest.unit_ids)
        if outcomes.empty:
            outcomes = pd.DataFrame(columns=[*KEY_COLUMNS, "purpose", "example", "batch", "label", "draw"])
        return outcomes, metadata, timings

    @cached_property
    def _costs(self) -> dict[Case, ImagesSpent]:
        """Images through the network, and seconds."""
        spent: dict[Case, ImagesSpent] = {}
        for record in self.manifest.cases:
            for unit in record.all_units:
                if unit in self._read[1]:
                    counts = self._read[1][unit] if unit in record.units else {}
                    forwards, backwards = (_amount(counts.get(f"{way}wards", 0)) for way in ("for", "back"))
                    seconds = _amount(self._read[2][unit].get("seconds", 0))
                    cost = ImagesSpent(forwards, backwards, seconds)
                    spent[record.case] = spent.get(record.case, ImagesSpent(0.0, 0.0)).plus(cost)
        return spent

    def _units(self) -> Iterator[tuple[Case, str]]:
        """(case, unit) of every planned unit that attacks, or scores clean inputs."""
        for case in self.manifest.cases:
            for unit in case.units:
                yield case.case, unit


def _amount(value: Any) -> float:
    """A number of a stranger's file, 0 unless it is one."""
    usable = type(value) in (int, float) and math.isfinite(value) and value >= 0
    return float(value) if usable else 0.0
