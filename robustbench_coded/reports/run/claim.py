"""What a run says of a claim: the claim, what its own attack and the strongest leave, and whether it holds.

RCI (N = 190) on erm is claimed to keep 72.0% under pgd-10 (batch/unknown, linf, eps 8/255): here pgd-10
leaves 30.0% [26.5, 33.7], the strongest attack (transfer-pgd-20) 0.0% [0.0, 0.6] and all attacks together
0.0% [0.0, 0.6]; the claim is refuted.
"""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import (
    counted,
    open_checks_text,
    percent,
    pixels,
    series,
    share_text,
    subject_text,
)
from robustbench_coded.results.judgements import Judgement, claim_of
from robustbench_coded.results.run import Run
from robustbench_coded.schema.claim import Claim, ClaimedAccuracy
from robustbench_coded.schema.controls import STRONGEST
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.verdict import Verdict, claimed_accuracy

_TOLD = 3  # claimed subjects with a sentence each; the others are counted
_ACCURACY = {
    ClaimedAccuracy.MEAN: "",
    ClaimedAccuracy.MAJORITY: ", by majority vote over the draws,",
    ClaimedAccuracy.EVERY_DRAW: ", right in every draw,",
}


def claim_answers(run: Run) -> list[str]:
    """A sentence for each subject that the claim of a run is about; none where nothing is claimed."""
    claim = claim_of(run.manifest)
    if claim is None:
        return []
    judged = [j for j in run.judgements if j.verdict.claim is not None]
    if not judged:
        return [f"The claim of {percent(claim.value)}%{_under(claim)} was not tested: no attack ran there."]
    words = run.words_together(judged)
    said = [_answer(run, j, word, len(judged)) for j, word in zip(judged[:_TOLD], words, strict=False)]
    if others := [_comes_to(j.verdict) for j in judged[_TOLD:]]:
        counts = series([f"{word} for {others.count(word)}" for word in dict.fromkeys(others)])
        said.append(f"The claim covers {counted(len(others), 'more subject')}: {counts}.")
    return said


def _answer(run: Run, judgement: Judgement, word: str, judgements: int) -> str:
    claim, verdict = judgement.verdict.claim, judgement.verdict
    assert claim is not None
    subject = subject_text(judgement.subject, with_k=True)
    end = f"the claim {_decided(verdict, claim)}"
    if verdict.word == VerdictWord.CLAIM_REFUTED != word:
        end += f", but not once the error is adjusted for {judgements} judgements"
    claimed = f"{subject} is claimed to keep {percent(claim.value)}%{_ACCURACY[claim.about]}{_under(claim)}"
    return f"{claimed}: here {_left(run, judgement, claim)}; {end}."


def _under(claim: Claim) -> str:
    """`` under pgd-10 (batch/unknown, linf, eps 8/255)``"""
    parts, budget = [str(claim.threat)], claim.budget
    if budget is not None:
        parts += [budget.norm, f"eps {pixels(budget.eps)}"]
        parts += [budget.eps_space] if budget.eps_space != "pixel" else []
    return f"{'' if claim.attack is None else f' under {claim.attack}'} ({', '.join(parts)})"


def _left(run: Run, judgement: Judgement, claim: Claim) -> str:
    """What the attack of the claim, the strongest one and all of them together leave."""
    rows = [row for row in run.results if row.key.subject == judgement.subject]
    strongest = next((r for r in rows if r.key == judgement.key.of_attack(STRONGEST)), None)
    name = "" if strongest is None else strongest.strongest_attack
    parts = []
    if claim.attack is not None:
        row = _of_attack(rows, judgement, claim)
        is_it = ", the strongest attack," if name == claim.attack else ""
        where = "" if row is None or row.key.threat == claim.threat else f" ({row.key.threat})"
        parts.append(f"{claim.attack}{where}{is_it} leaves {_figure(claim, row)}")
    if strongest is not None and name != claim.attack:
        verb = "" if parts else "leaves "
        parts.append(f"the strongest attack ({name}) {verb}{_figure(claim, strongest)}")
    verb = "" if parts else "leave "
    parts.append(f"all attacks together {verb}{_told(judgement.verdict.claimed)}")
    return series(parts)


def _of_attack(rows: Sequence[CaseResult], judgement: Judgement, claim: Claim) -> CaseResult | None:
    """The row of the claim's attack: under the threat model of the claim, else under another one."""
    of_it = [r for r in rows if r.key.attack == claim.attack and r.key.budget == judgement.budget]
    return min(of_it, key=lambda row: row.key.threat != claim.threat, default=None)


def _figure(claim: Claim, row: CaseResult | None) -> str:
    return _told(None if row is None or not row.complete else claimed_accuracy(claim, row))


def _told(measured: Interval | None) -> str:
    return "no complete figure" if measured is None else share_text(measured)


def _comes_to(verdict: Verdict) -> str:
    """``refuted``, ``standing`` or ``not settled``."""
    claim, left = verdict.claim, verdict.claimed
    if verdict.word == VerdictWord.CLAIM_REFUTED:
        return "refuted"
    if claim is None or left is None or left.low < claim.value or verdict.open_checks:
        return "not settled"
    return "standing"


def _decided(verdict: Verdict, claim: Claim) -> str:
    match _comes_to(verdict):
        case "refuted":
            return "is refuted"
        case "standing":
            return "stands against every attack tried, which is no proof"
    if verdict.claimed is None:
        return "is not settled, because outcomes are missing"
    if verdict.claimed.low < claim.value:
        return f"is not settled, because that interval contains {percent(claim.value)}%"
    return f"is not settled: that interval lies above it, but {open_checks_text(verdict.open_checks)}"
