"""The verdict on one threat model of a run, and the checks it rests on: all that depends on other rows.

    judge(rows, ensemble, checks, ...) -> (Verdict, checks)

A word is asked for what it takes to believe it. Praise asks whether the defence met what broke its base
model; the lack of a gain asks whether the base model met what broke the defence (`same_attacks.py`). Neither
is asked where the other figures leave no room for the word.
"""

from collections.abc import Sequence

from robustbench_coded.schema.claim import Claim
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.same_attacks import not_compared, what_broke_the_base
from robustbench_coded.statistics.verdict import MARGIN, Verdict, base_ensemble, verdict


def judge(
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    checks: Sequence[Check],
    *,
    margin: float = MARGIN,
    claim: Claim | None = None,
    tail: float = TAIL,
) -> tuple[Verdict, tuple[Check, ...]]:
    """The verdict, and ``checks`` with the comparison to the base model where the word hangs on it.

    Args:
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
        checks: those of the threat model, from `run_checks`, and of the self-tests.
        margin, claim, tail: as for `verdict`.
    """
    base = base_ensemble(rows, ensemble)
    found = verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail)
    if base is None or found.gain is None or found.accuracy is None:
        return found, tuple(checks)
    if found.gain.low > margin:
        checks = (*checks, what_broke_the_base(rows, ensemble, base, margin))
        return verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail), tuple(checks)
    if found.word in (VerdictWord.NO_GAIN, VerdictWord.WORSE_THAN_BASE) and found.accuracy.high >= margin:
        doubt = not_compared(rows, ensemble, base, margin)
        found = verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail, doubt=doubt)
    return found, tuple(checks)
