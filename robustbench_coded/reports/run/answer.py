"""The sentence that a report opens with: what is left of one subject, and what that comes to.

RCI (N = 190) on erm keeps 30.0% under pgd-10 at eps 8/255 (linf), batch/unknown, but only 0.0% [0.0, 0.6]
under transfer from its own base model (transfer-pgd-20): no gain over the bare network (0.0%).
"""

from robustbench_coded.reports.run.undercuts import Undercut
from robustbench_coded.reports.text.formatting import (
    is_submitted,
    open_checks_text,
    parsed_attack,
    percent,
    pixels,
    share_text,
    subject_text,
)
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.verdict import Verdict


def answer(judgement: Judgement, word: str, judgements: int, undercut: Undercut | None = None) -> str:
    """One sentence on a judgement.

    Args:
        word: the verdict's, at the error adjusted for the number of judgements.
        judgements: that number.
        undercut: the paper's strongest attack on this subject and a stronger one of the same threat model,
            where there is one; else clean accuracy and all attacks together are told.
    """
    with_k = undercut is not None and undercut.with_k
    subject = subject_text(judgement.subject, with_k=with_k)
    return f"{subject} {_left(judgement, undercut)}: {_comes_to(judgement.verdict, word, judgements)}."


def _left(judgement: Judgement, undercut: Undercut | None) -> str:
    verdict = judgement.verdict
    if undercut is not None:
        before, after = undercut.papers.interval(), undercut.stronger.interval()
        if before is not None and after is not None:
            papers = f"{undercut.papers.key.attack} {_within(judgement)}"
            return (
                f"keeps {percent(before.estimate)}% under {papers}, but only "
                f"{share_text(after)} under {_named(undercut.stronger.strongest_attack)}"
            )
    if verdict.accuracy is None:
        return "has no outcomes yet"
    clean = (
        ""
        if verdict.clean is None
        else f"classifies {percent(verdict.clean.estimate)}% of clean inputs correctly and "
    )
    return f"{clean}keeps {share_text(verdict.accuracy)} under all attacks combined {_within(judgement)}"


def _within(judgement: Judgement) -> str:
    """``at eps 8/255 (linf), batch/unknown``: the threat model of every figure of the sentence."""
    budget = judgement.budget
    space = "" if budget.eps_space == "pixel" else f", {budget.eps_space}"
    return f"at eps {pixels(budget.eps)} ({budget.norm}{space}), {judgement.threat}"


def _named(attack: str) -> str:
    """The attack, and what its attacker has."""
    name = parsed_attack(attack)
    if is_submitted(attack):
        return f"perturbed inputs that were found elsewhere ({attack})"
    if name is not None and name.estimator == "transfer":
        return f"transfer from its own base model ({attack})"
    if name is not None and name.estimator == "aware":
        return f"an attacker who knows its draw ({attack})"
    return attack


def _comes_to(verdict: Verdict, word: str, judgements: int) -> str:
    if word != verdict.word:
        by_itself = _meaning(verdict, verdict.word)
        return f"{by_itself}, but not settled once the error is adjusted for {judgements} judgements"
    return _meaning(verdict, word)


def _meaning(verdict: Verdict, word: str) -> str:
    base = "" if verdict.gain is None else f" ({percent(verdict.gain.second)}%)"
    match word:
        case VerdictWord.NO_GAIN:
            return f"no gain over the bare network{base}"
        case VerdictWord.WORSE_THAN_BASE:
            return f"less than the bare network keeps{base}"
        case VerdictWord.BROKEN:
            return f"broken (the threshold is {percent(verdict.broken_at)}%)"
        case VerdictWord.CLAIM_REFUTED:
            claimed = "" if verdict.claim is None else f" of {percent(verdict.claim.value)}%"
            return f"the claim{claimed} is refuted"
        case VerdictWord.NO_FAILURE_FOUND:
            return f"no failure found, an upper bound and not a proof{_beside(verdict)}"
        case _:
            return f"not settled, {_why_open(verdict)}"


def _beside(verdict: Verdict) -> str:
    """What the network keeps alone."""
    if verdict.gain is not None:
        return f"; the bare network keeps {percent(verdict.gain.second)}%"
    if verdict.beside is None:
        return ""
    return f"; it names no base model, and the checkpoint alone keeps {percent(verdict.beside.second)}%"


def _why_open(verdict: Verdict) -> str:
    """The shortest reason for ``not settled``."""
    if "outcomes are missing" in verdict.reason or verdict.accuracy is None:
        return "because outcomes are missing"
    if verdict.above_the_bar:
        return f"because {open_checks_text(verdict.open_checks)}"
    gain = verdict.gain
    if not verdict.compared:
        return f"because the interval contains {percent(verdict.bar)}%, up to which it counts as broken"
    if gain is None:
        return "because the bare network was not evaluated"
    if gain.high < verdict.bar:
        return "because the bare network met weaker attacks"
    return (
        f"because the gain over the bare network ({percent(gain.second)}%) may be anything from "
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f} points"
    )
