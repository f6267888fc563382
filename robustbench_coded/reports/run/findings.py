"""Sentences that a run's own figures choose: where a stronger attack undercuts those of the paper, and by
how much."""

from collections import defaultdict
from collections.abc import Sequence

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.reports.text.formatting import (
    budget_text,
    interval,
    is_peers,
    percent,
    points,
    subject_text,
)
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CONTROLS, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.decomposition import sentence
from robustbench_coded.statistics.paired import NotPaired, paired_difference


def undercuts(run: Run) -> list[str]:
    """One sentence per subject and budget where a stronger attack undercuts the paper's; the largest first.

    The stronger attack is the strongest single one of a threat model as chosen on selection draws; where
    several threat models have one, the one that knows least is named, and of two of those the one with
    more to show.
    """
    groups: dict[tuple[SubjectKey, BudgetKey], list[CaseResult]] = defaultdict(list)
    asked = run.manifest.judged_budgets
    for row in run.results:
        if row.cell is not None and row.key.attack not in CONTROLS and row.key.budget in asked:
            groups[row.key.subject, row.key.budget].append(row)
    several_k = len({subject.k for subject, _ in groups if subject.k is not None}) > 1
    told = [_undercut(subject, budget, rows, several_k) for (subject, budget), rows in groups.items()]
    by_size = sorted(filter(None, told), key=lambda found: -found[0])
    return [said for _, said in by_size]


def decompositions(run: Run) -> list[str]:
    """Where each subject's accuracy above its base model comes from, by the attacks of the run."""
    sentences = []
    for judgement in run.judgements:
        told = sentence(judgement.parts)
        if told:
            sentences.append(f"{subject_text(judgement.subject, with_k=True)} ({judgement.threat}): {told}")
    return sentences


def peers_own_figures(run: Run) -> list[str]:
    """What attacks of other packages say of themselves, beside what they leave on fresh draws."""
    sentences = []
    for row in run.results:
        counts = run.counts_of(row.key) if row.cell is not None and is_peers(row.key.attack) else {}
        measured = row.interval()
        if counts.get("peer_stopped") and measured is not None:
            sentences.append(
                f"{subject_text(row.key.subject, with_k=True)}: {row.key.attack} was stopped by its "
                f"budget of images on {counts['peer_stopped']:g} inputs before it had a figure of its own "
                f"({row.key.threat}, {budget_text(row.key.budget)}); what it had shown the defence last "
                f"leaves {percent(measured.estimate)}% {interval(measured.low, measured.high)}."
            )
        if not counts.get("peer_inputs") or measured is None:
            continue
        own = counts.get("peer_standing", 0.0) / counts["peer_inputs"]
        sentences.append(
            f"{subject_text(row.key.subject, with_k=True)}: {row.key.attack} itself reports "
            f"{percent(own)}% ({row.key.threat}, {budget_text(row.key.budget)}); on fresh draws its "
            f"inputs leave {percent(measured.estimate)}% {interval(measured.low, measured.high)}."
        )
    return sentences


def _undercut(
    subject: SubjectKey, budget: BudgetKey, rows: Sequence[CaseResult], with_k: bool
) -> tuple[float, str] | None:
    """By how much, and the sentence."""
    papers = [row for row in rows if papers_attack(row.key.attack) and row.key.threat == WHOLE_BATCH]
    if not papers:
        return None
    best = min(papers, key=_accuracy)
    found = []
    for row in rows:
        if row.key.attack == STRONGEST and not papers_attack(row.strongest_attack):
            try:
                difference = paired_difference(best, row)
            except NotPaired:
                continue
            if difference.low > 0:
                found.append((row.key.threat.draw_known, -difference.estimate, row, difference))
    if not found:
        return None
    row, difference = min(found, key=lambda entry: entry[:2])[2:]
    measured = row.interval()
    assert measured is not None and row.cell is not None  # it has a difference, so it has outcomes
    shared = (
        ""
        if difference.examples == len(row.cell.example)
        else f", on the {difference.examples} examples that both have"
    )
    return difference.estimate, (
        f"{subject_text(subject, with_k=with_k)}: under {row.key.threat} ({budget_text(budget)}) "
        f"{row.strongest_attack} leaves {percent(measured.estimate)}% "
        f"{interval(measured.low, measured.high)}, which is {points(difference.estimate)} points "
        f"{interval(difference.low, difference.high)} less than {best.key.attack}, the strongest of the "
        f"paper's attacks here, which leaves {percent(difference.first)}%{shared}."
    )


def _accuracy(row: CaseResult) -> float:
    assert row.cell is not None
    return float(row.cell.correct.mean())
