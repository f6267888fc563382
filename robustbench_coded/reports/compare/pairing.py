"""Paired differences between rows of several runs, and why some can't be formed."""

import numpy as np

from robustbench_coded.reports.compare.baseline import Contender
from robustbench_coded.reports.text.formatting import inference_text, subject_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.paired import Difference, NotPaired, paired_difference
from robustbench_coded.statistics.summary import SummaryRow


class Pairing:
    """Forms paired differences between rows of runs, and keeps why it could not."""

    def __init__(self, runs: dict[str, Run]):
        self._rows: dict[tuple[str, CaseKey], CaseResult] = {
            (name, row.key): row for name, run in runs.items() for row in run.results
        }
        self._runs = runs
        self._same_data: dict[tuple[str, str], str] = {}
        self.reasons: dict[str, None] = {}

    def difference(self, mine: Contender, other: Contender, row: SummaryRow) -> Difference | None:
        """The accuracy of ``row`` less that of the same attack on ``other``."""
        first = self._row(mine, row, row.threat)
        second = self._row(other, row, row.threat) or self._of_a_fixed_answer(other, row)
        if first is None or second is None or first.cell is None or second.cell is None:
            return None
        why = self._other_data(mine.run, other.run)
        if why:
            self.reasons[why] = None
            return None
        try:
            return paired_difference(first, second)
        except NotPaired as error:
            where = f"{inference_text(mine.subject, with_k=True)} in {mine.run} and "
            where += f"{inference_text(other.subject, with_k=True)} in {other.run}"
            self.reasons[f"{where}: {error}."] = None
            return None

    def without_counterpart(self, mine: Contender, baseline: str) -> None:
        """Keeps that a subject has nothing to be compared with."""
        subject = subject_text(mine.subject, with_k=True)
        self.reasons[f"{subject} in {mine.run} has no counterpart in the baseline, {baseline}."] = None

    def _row(self, contender: Contender, row: SummaryRow, threat: ThreatModel) -> CaseResult | None:
        """The row of the same attack and budget; a step size that differs is another attack."""
        key = CaseKey.of(contender.subject, threat, row.attack, row.budget, row.step_size)
        return self._rows.get((contender.run, key))

    def _of_a_fixed_answer(self, contender: Contender, line: SummaryRow) -> CaseResult | None:
        """A deterministic defence that answers inputs one by one is the same under every threat model."""
        row = self._row(contender, line, WHOLE_BATCH)
        return row if row is not None and not row.randomised and not row.batch_dependent else None

    def _other_data(self, one: str, other: str) -> str:
        """Why examples of two runs are not the same ones; '' where they are."""
        if one == other:
            return ""
        pair = (one, other)
        if pair not in self._same_data:
            self._same_data[pair] = _other_data(self._runs[one], self._runs[other])
        return self._same_data[pair] and f"{one} and {other}: {self._same_data[pair]}"


def _other_data(one: Run, other: Run) -> str:
    first, second = (run.manifest.identity.data_sha256 for run in (one, other))
    if first == second and first is not None:
        return ""
    names = [run.manifest.identity.data for run in (one, other)]
    if names[0] != names[1]:
        return f"they use different data ({names[0]} and {names[1]}), so no difference is computed."
    labels = [_labels(run) for run in (one, other)]
    shared = labels[0].keys() & labels[1].keys()
    if not shared or any(labels[0][example] != labels[1][example] for example in shared):
        return f"both use {names[0]}, but with different images or labels, so no difference is computed."
    return ""


def _labels(run: Run) -> dict[int, int]:
    outcomes = run.outcomes
    example, first = np.unique(outcomes["example"].to_numpy(), return_index=True)
    return dict(zip(example.tolist(), outcomes["label"].to_numpy()[first].tolist(), strict=True))
