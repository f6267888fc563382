"""Where a stronger attack undercuts those of the paper, and by how much.

undercuts(run)        -> [Undercut, ...]   the largest first
undercut_text(result) -> str
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.reports.text.formatting import budget_text, interval, percent, points, subject_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CONTROLS, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.comparisons import difference_of
from robustbench_coded.statistics.holm import Ends, holm
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.paired import Difference, paired_difference


class Undercut(NamedTuple):
    """A stronger attack than the paper's on one subject.

    Attributes:
        papers: the strongest of the paper's attacks.
        stronger: the strongest attack under a threat model.
        comparisons: how many were made in the run, over which the error is shared.
        with_k: whether the run has several batch sizes.
    """

    subject: SubjectKey
    budget: BudgetKey
    papers: CaseResult
    stronger: CaseResult
    comparisons: int = 1
    with_k: bool = False

    @property
    def same_threat(self) -> bool:
        """Whether both attacks have the same attacker."""
        return self.stronger.key.threat == self.papers.key.threat


def undercuts(run: Run) -> list[Undercut]:
    """Per subject and budget, where a stronger attack undercuts the paper's; the largest first.

    The stronger attack is the strongest single one of a threat model as chosen on selection draws; where
    several threat models have one, that of the paper's attacks is named, else the one that knows least, and
    of two of those the one with more to show. All comparisons of the run share one error: which of them are
    told is Holm's decision, and the intervals hold for all of them at once, so that the largest may be
    picked.
    """
    groups: dict[tuple[SubjectKey, BudgetKey], list[CaseResult]] = defaultdict(list)
    asked = run.manifest.judged_budgets
    for row in run.results:
        if row.cell is not None and row.key.attack not in CONTROLS and row.key.budget in asked:
            groups[row.key.subject, row.key.budget].append(row)
    pairs = [pair for group, rows in groups.items() for pair in _pairs(*group, rows)]
    measured = {index: paired_difference(pair.papers, pair.stronger) for index, pair in enumerate(pairs)}
    told = holm([_asked(pair, measured[index]) for index, pair in enumerate(pairs)], _certain, TAIL)
    best: dict[tuple[SubjectKey, BudgetKey], int] = {}
    for index, pair in enumerate(pairs):
        if told[index].settled:
            group = pair.subject, pair.budget
            best[group] = min(best.get(group, index), index, key=lambda i: _order(pairs[i], measured[i]))
    several_k = len({subject.k for subject, _ in groups if subject.k is not None}) > 1
    chosen = sorted(best.values(), key=lambda index: -measured[index].estimate)
    return [pairs[i]._replace(comparisons=len(pairs), with_k=several_k) for i in chosen]


def undercut_text(pair: Undercut) -> str:
    """Both figures and their difference, with intervals."""
    comparisons = pair.comparisons
    row, best = pair.stronger, pair.papers
    difference = paired_difference(best, row, TAIL / comparisons)
    measured = row.interval()
    assert measured is not None and row.cell is not None  # it has a difference, so it has outcomes
    shared = (
        ""
        if difference.examples == len(row.cell.example)
        else f", on the {difference.examples} examples that both have"
    )
    together = "" if comparisons == 1 else f" (error shared by {comparisons} comparisons)"
    subject = subject_text(pair.subject, with_k=pair.with_k)
    return (
        f"{subject}: under {row.key.threat} ({budget_text(pair.budget)}) "
        f"{row.strongest_attack} leaves {percent(measured.estimate)}% "
        f"{interval(measured.low, measured.high)}. {best.key.attack}{_elsewhere(pair)}, the strongest of the "
        f"paper's attacks here, leaves {percent(difference.first)}%. The difference is "
        f"{points(difference.estimate)} points {interval(difference.low, difference.high)}{together}{shared}."
    )


def _elsewhere(pair: Undercut) -> str:
    """The threat model of the paper's attack, where it is another one than that of the stronger attack."""
    return "" if pair.same_threat else f" under {pair.papers.key.threat}"


def _pairs(subject: SubjectKey, budget: BudgetKey, rows: Sequence[CaseResult]) -> list[Undercut]:
    papers = [row for row in rows if papers_attack(row.key.attack) and row.key.threat == WHOLE_BATCH]
    if not papers:
        return []
    best = min(papers, key=_accuracy)
    stronger = [
        row for row in rows if row.key.attack == STRONGEST and not papers_attack(row.strongest_attack)
    ]
    return [Undercut(subject, budget, best, row) for row in stronger if difference_of(best, row) is not None]


def _asked(pair: Undercut, measured: Difference) -> Callable[[float], Ends]:
    """The interval of the difference at an error; where it holds 0 by itself it does so together, too."""

    def ends(tail: float) -> Ends:
        asked = measured if measured.low <= 0 else paired_difference(pair.papers, pair.stronger, tail)
        return asked.low, asked.high

    return ends


def _certain(ends: Ends) -> bool:
    return ends[0] > 0


def _order(pair: Undercut, measured: Difference) -> tuple[bool, bool, float]:
    return not pair.same_threat, pair.stronger.key.threat.draw_known, -measured.estimate


def _accuracy(row: CaseResult) -> float:
    assert row.cell is not None
    return float(row.cell.correct.mean())
