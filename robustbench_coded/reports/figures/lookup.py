"""Which lines of a run a figure is drawn from."""

from collections.abc import Iterable, Sequence

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.statistics.summary import SummaryRow


def main_budget(lines: Sequence[SummaryRow]) -> BudgetKey | None:
    """The budget that most attacks ran under; of several the largest eps."""
    budgets = [line.budget for line in attacked(lines)]
    return max(budgets, key=lambda b: (budgets.count(b), b.eps), default=None)


def attacked(lines: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Lines of single attacks that have outcomes."""
    return [
        line for line in lines if line.measured and line.attack not in CONTROLS and line.accuracy is not None
    ]


def find(
    lines: Iterable[SummaryRow],
    subject: SubjectKey,
    attack: str,
    threat: ThreatModel,
    budget: BudgetKey | None,
) -> SummaryRow | None:
    """One line with an accuracy; clean inputs under any budget."""
    for line in lines:
        same = (line.subject, line.attack) == (subject, attack) and line.accuracy is not None
        if same and (attack == "clean" or (line.threat == threat and line.budget == budget)):
            return line
    return None


def lowest_of_papers(
    lines: Iterable[SummaryRow], subject: SubjectKey, budget: BudgetKey
) -> SummaryRow | None:
    """The lowest of the paper's attacks on a subject."""
    found = [
        line
        for line in attacked(lines)
        if (line.subject, line.budget, line.threat) == (subject, budget, WHOLE_BATCH)
        and papers_attack(line.attack)
    ]
    return min(found, key=lambda line: line.accuracy or 0.0, default=None)


def subjects_of(lines: Iterable[SummaryRow]) -> list[SubjectKey]:
    """Subjects in the order of the run."""
    return list(dict.fromkeys(line.subject for line in lines))


def checkpoints_of(lines: Iterable[SummaryRow]) -> list[str]:
    """Checkpoints in the order of the run."""
    return list(dict.fromkeys(line.subject.checkpoint for line in lines))
