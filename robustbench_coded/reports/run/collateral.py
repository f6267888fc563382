"""Collateral damage: how far a few malicious inputs of a batch harm the unperturbed ones."""

from collections.abc import Iterator, Sequence

from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    budget_text,
    inference_text,
    interval,
    percent,
    subject_text,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import ENSEMBLE
from robustbench_coded.statistics.summary import SummaryRow

COLLATERAL = "Collateral damage"
COLLATERAL_LEGEND = (
    "Accuracy on unperturbed inputs whose batch contains the given number of malicious inputs. Malicious "
    "inputs are perturbed within eps, or anywhere in [0, 1], to raise the loss on the unperturbed ones. "
    "They are chosen at random and nested: those of 2 are among those of 4. Accuracy is under the ensemble "
    "of the attacks that ran; clean: the same inputs without malicious ones."
)


def collateral_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """A row per subject, budget, number of malicious inputs and what they know; no rows without any."""
    heads = ("Checkpoint", "Inference", "Budget", "Draw", "Malicious", "Clean", "Within eps", "Anywhere")
    rows = []
    for (subject, budget, draw, count), found in _found(lines).items():
        within, anywhere = found.get(False), found.get(True)
        clean = next(row.clean_accuracy for row in (within, anywhere) if row is not None)
        rows.append(
            (
                subject.checkpoint,
                inference_text(subject, with_k=True),
                budget_text(budget),
                draw,
                str(count),
                percent(clean),
                _accuracy(within),
                _accuracy(anywhere),
            )
        )
    return TextTable(heads, tuple(rows), frozenset(heads[4:]))


def collateral_findings(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """What the fewest and the most malicious inputs did to each subject, at their worst."""
    groups: dict[tuple[SubjectKey, BudgetKey], dict[int, SummaryRow]] = {}
    for (subject, budget, draw, count), found in _found(rows).items():
        if draw == "unknown":
            worst = min(found.values(), key=lambda row: row.accuracy or 0.0)
            groups.setdefault((subject, budget), {})[count] = worst
    for (subject, budget), by_count in groups.items():
        said = []
        for count in dict.fromkeys((min(by_count), max(by_count))):
            row = by_count[count]
            said.append(
                f"{count} of {subject.k} inputs, malicious {_where(row, budget)}, leave the others at "
                f"{percent(row.accuracy)}% {interval(row.low, row.high)}, clean "
                f"{percent(row.clean_accuracy)}%"
            )
        yield f"{subject_text(subject, with_k=True)}: {'; '.join(said)}."


def _found(
    rows: Sequence[SummaryRow],
) -> dict[tuple[SubjectKey, BudgetKey, str, int], dict[bool, SummaryRow]]:
    """Ensembles by what was attacked, and by whether malicious inputs may go anywhere."""
    found: dict[tuple[SubjectKey, BudgetKey, str, int], dict[bool, SummaryRow]] = {}
    for row in rows:
        count = row.threat.malicious
        if count is not None and row.attack == ENSEMBLE and row.accuracy is not None:
            key = row.subject, row.budget, row.threat.randomness, count
            found.setdefault(key, {})[row.threat.free] = row
    return found


def _accuracy(row: SummaryRow | None) -> str:
    if row is None:
        return ""
    return accuracy_text(row.accuracy, row.low, row.high)


def _where(row: SummaryRow, budget: BudgetKey) -> str:
    return "anywhere in [0, 1]" if row.threat.free else f"within {budget_text(budget)}"
