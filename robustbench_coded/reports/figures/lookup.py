"""Which lines of a run a figure is drawn from."""

from collections.abc import Iterable, Sequence

from robustbench_coded.results.summary_rows import NULLS, Budget, Line, Subject
from robustbench_coded.reports.paper.paper import papers_attack


def main_budget(lines: Sequence[Line]) -> Budget | None:
    """The budget that most attacks ran under; of several the largest eps."""
    budgets = [line.budget for line in attacked(lines)]
    return max(budgets, key=lambda b: (budgets.count(b), b.eps), default=None)


def attacked(lines: Iterable[Line]) -> list[Line]:
    """Lines of single attacks that have outcomes."""
    return [
        line for line in lines if line.measured and line.attack not in NULLS and line.accuracy is not None
    ]


def find(
    lines: Iterable[Line], subject: Subject, attack: str, threat: str, budget: Budget | None
) -> Line | None:
    """One line with an accuracy; clean inputs under any budget."""
    for line in lines:
        same = (line.subject, line.attack) == (subject, attack) and line.accuracy is not None
        if same and (attack == "clean" or (line.threat == threat and line.budget == budget)):
            return line
    return None


def lowest_of_papers(lines: Iterable[Line], subject: Subject, budget: Budget) -> Line | None:
    """The lowest of the paper's attacks on a subject."""
    found = [
        line
        for line in attacked(lines)
        if (line.subject, line.budget, line.threat) == (subject, budget, "batch/unknown")
        and papers_attack(line.attack)
    ]
    return min(found, key=lambda line: line.accuracy or 0.0, default=None)


def subjects_of(lines: Iterable[Line]) -> list[Subject]:
    """Subjects in the order of the run."""
    return list(dict.fromkeys(line.subject for line in lines))


def checkpoints_of(lines: Iterable[Line]) -> list[str]:
    """Checkpoints in the order of the run."""
    return list(dict.fromkeys(line.subject.checkpoint for line in lines))
