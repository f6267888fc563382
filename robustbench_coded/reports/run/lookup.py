"""Which rows of a run stand for a subject: in figures, and at the head of a report."""

from collections.abc import Iterable, Sequence

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.summary import SummaryRow


def main_budget(rows: Sequence[SummaryRow]) -> BudgetKey | None:
    """The budget that most attacks ran under; of several the largest eps."""
    budgets = [row.budget for row in attacked(rows)]
    return max(budgets, key=lambda b: (budgets.count(b), b.eps), default=None)


def attacked(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Lines of single attacks that have outcomes."""
    return [row for row in rows if row.measured and row.attack not in CONTROLS and row.accuracy is not None]


def find(
    rows: Iterable[SummaryRow],
    subject: SubjectKey,
    attack: str,
    threat: ThreatModel,
    budget: BudgetKey | None,
) -> SummaryRow | None:
    """One line with an accuracy; clean inputs under any budget."""
    for row in rows:
        same = (row.subject, row.attack) == (subject, attack) and row.accuracy is not None
        if same and (attack == "clean" or (row.threat == threat and row.budget == budget)):
            return row
    return None


def lowest_of_papers(rows: Iterable[SummaryRow], subject: SubjectKey, budget: BudgetKey) -> SummaryRow | None:
    """The lowest of the paper's attacks on a subject."""
    found = [
        row
        for row in attacked(rows)
        if (row.subject, row.budget, row.threat) == (subject, budget, WHOLE_BATCH)
        and papers_attack(row.attack)
    ]
    return min(found, key=lambda row: row.accuracy or 0.0, default=None)


def subjects_of(rows: Iterable[SummaryRow]) -> list[SubjectKey]:
    """Subjects in the order of the run."""
    return list(dict.fromkeys(row.subject for row in rows))


def checkpoints_of(rows: Iterable[SummaryRow]) -> list[str]:
    """Checkpoints in the order of the run."""
    return list(dict.fromkeys(row.subject.checkpoint for row in rows))


def cost(row: SummaryRow) -> float:
    """Images forward and backward per scored example."""
    return (row.forwards or 0.0) + (row.backwards or 0.0)


def is_attacked(row: CaseResult) -> bool:
    """Whether an attack is among what a row was counted from, and not only inputs left alone."""
    return any(key.attack not in CONTROLS for key in row.sources)
