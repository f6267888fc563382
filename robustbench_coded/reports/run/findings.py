"""Sentences that a run's own figures choose: what knowing the draw is worth, and what other packages say of
themselves.
"""

from collections.abc import Sequence

from robustbench_coded.reports.run.collateral import collateral_findings
from robustbench_coded.reports.text.formatting import (
    budget_text,
    counted,
    is_peers,
    percent,
    series,
    share_text,
    subject_text,
)
from robustbench_coded.results.run import Run

_NAMED = 3  # subjects that a sentence names; of more it gives the number


def findings_of(run: Run) -> list[str]:
    """All of them, in their order."""
    return [*without_design(run), *collateral_findings(run.rows), *peers_own_figures(run)]


def without_design(run: Run) -> list[str]:
    """The attacks that would tell knowing the draw from a better start, once for all that lack some."""
    missing: dict[str, None] = {}
    subjects: dict[str, None] = {}
    for judgement in run.judgements:
        if judgement.to_design:
            subjects[f"{subject_text(judgement.subject, with_k=True)} ({judgement.threat})"] = None
            missing.update(dict.fromkeys(judgement.to_design))
    if not subjects:
        return []
    return [
        "The effects of knowing the draw and of starting from the base model's perturbation were not "
        f"separated for {_some(list(subjects))}. The same command with --attacks "
        f"paper,adaptive,{','.join(missing)} separates them."
    ]


def _some(subjects: Sequence[str]) -> str:
    """The subjects, or how many where few would read them all."""
    return series(subjects) if len(subjects) <= _NAMED else counted(len(subjects), "subject")


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
                f"leaves {share_text(measured)}."
            )
        if not counts.get("peer_inputs") or measured is None:
            continue
        own = counts.get("peer_standing", 0.0) / counts["peer_inputs"]
        sentences.append(
            f"{subject_text(row.key.subject, with_k=True)}: {row.key.attack} itself reports "
            f"{percent(own)}% ({row.key.threat}, {budget_text(row.key.budget)}); on fresh draws its "
            f"inputs leave {share_text(measured)}."
        )
    return sentences
