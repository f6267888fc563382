"""Sentences that a run's own figures choose: what knowing the draw is worth, and what other packages say of
themselves.
"""

from robustbench_coded.reports.text.formatting import (
    budget_text,
    interval,
    is_peers,
    percent,
    series,
    subject_text,
)
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.statistics.design import CELLS, sentence


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
            f"{series(list(dict.fromkeys(missing)))}: the same command with --attacks "
            f"paper,adaptive,{','.join(CELLS)} runs what that takes."
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
