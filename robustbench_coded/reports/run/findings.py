"""Sentences that a run's own figures choose: where a stronger attack undercuts those of the paper, and by
how much."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.reports.text.formatting import (
    budget_text,
    interval,
    is_peers,
    percent,
    points,
    series,
    subject_text,
)
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CONTROLS, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.comparisons import difference_of
from robustbench_coded.statistics.design import CELLS, sentence
from robustbench_coded.statistics.holm import Ends, holm
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.paired import Difference, paired_difference


class _Pair(NamedTuple):
    """The strongest of the paper's attacks on a subject, and the strongest attack under a threat model."""

    subject: SubjectKey
    budget: BudgetKey
    papers: CaseResult
    stronger: CaseResult


def undercuts(run: Run) -> list[str]:
    """One sentence per subject and budget where a stronger attack undercuts the paper's; the largest first.

    The stronger attack is the strongest single one of a threat model as chosen on selection draws; where
    several threat models have one, the one that knows least is named, and of two of those the one with
    more to show. All comparisons of the run share one error: which of them are told is Holm's decision, and
    the intervals hold for all of them at once, so that the largest may be picked.
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
    return [_undercut(pairs[i], len(pairs), with_k=several_k) for i in chosen]


def designs(run: Run) -> list[str]:
    """What knowing the draw and starting from the base model's perturbation take from each subject.

    Where a cell of the design did not run, the attacks that fill it are named, once for all such subjects.
    """
    sentences, missing = [], []
    for judgement in run.judgements:
        subject = subject_text(judgement.subject, with_k=True)
        if judgement.design is not None:
            sentences.append(f"{subject} ({judgement.threat}): {sentence(judgement.design)}")
        elif _could_be_designed(run, judgement):
            missing.append(f"{subject} ({judgement.threat})")
    if missing:
        sentences.append(
            "Knowing the draw and starting from the base model's perturbation were not told apart for "
            f"{series(list(dict.fromkeys(missing)))}: that takes {series(CELLS)}."
        )
    return sentences


def _could_be_designed(run: Run, judgement: Judgement) -> bool:
    """Whether there is a draw to know, and a base model to start from, and both were tried one by one."""
    threat = judgement.threat
    if threat.draw_known or not threat.whole_batch:
        return False
    rows = [row for row in run.results if row.key == judgement.key]
    return any(row.randomised and row.has_base for row in rows)


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


def _pairs(subject: SubjectKey, budget: BudgetKey, rows: Sequence[CaseResult]) -> list[_Pair]:
    papers = [row for row in rows if papers_attack(row.key.attack) and row.key.threat == WHOLE_BATCH]
    if not papers:
        return []
    best = min(papers, key=_accuracy)
    stronger = [
        row for row in rows if row.key.attack == STRONGEST and not papers_attack(row.strongest_attack)
    ]
    return [_Pair(subject, budget, best, row) for row in stronger if difference_of(best, row) is not None]


def _asked(pair: _Pair, measured: Difference) -> Callable[[float], Ends]:
    """The interval of the difference at an error; where it holds 0 by itself it does so together, too."""

    def ends(tail: float) -> Ends:
        asked = measured if measured.low <= 0 else paired_difference(pair.papers, pair.stronger, tail)
        return asked.low, asked.high

    return ends


def _certain(ends: Ends) -> bool:
    return ends[0] > 0


def _order(pair: _Pair, measured: Difference) -> tuple[bool, float]:
    return pair.stronger.key.threat.draw_known, -measured.estimate


def _undercut(pair: _Pair, comparisons: int, *, with_k: bool) -> str:
    row, best = pair.stronger, pair.papers
    difference = paired_difference(best, row, TAIL / comparisons)
    measured = row.interval()
    assert measured is not None and row.cell is not None  # it has a difference, so it has outcomes
    shared = (
        ""
        if difference.examples == len(row.cell.example)
        else f", on the {difference.examples} examples that both have"
    )
    together = "" if comparisons == 1 else f" ({comparisons} comparisons at once)"
    return (
        f"{subject_text(pair.subject, with_k=with_k)}: under {row.key.threat} ({budget_text(pair.budget)}) "
        f"{row.strongest_attack} leaves {percent(measured.estimate)}% "
        f"{interval(measured.low, measured.high)}, which is {points(difference.estimate)} points "
        f"{interval(difference.low, difference.high)}{together} less than {best.key.attack}, the strongest "
        f"of the paper's attacks here, which leaves {percent(difference.first)}%{shared}."
    )


def _accuracy(row: CaseResult) -> float:
    assert row.cell is not None
    return float(row.cell.correct.mean())
