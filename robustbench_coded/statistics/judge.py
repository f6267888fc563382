"""The verdict on one threat model of a run, and the checks it rests on: all that depends on other rows.

    judge(rows, ensemble, checks, ...) -> (Verdict, checks)

Each verdict has conditions. ``no failure found`` requires that the attacks that broke the base model ran on
the defence (`same_attacks.py`), and an attack on a margin or on targets (`another_loss.py`). ``no gain``
requires that what broke the defence ran on the base model. A condition is only checked where the accuracies
allow the verdict.

If outcomes of an attack are missing, ``no failure found`` is withheld and claims are not settled. Verdicts
against the defence that follow from the complete attacks stay.
"""

from collections.abc import Sequence
from dataclasses import replace

from robustbench_coded.schema.claim import Claim
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.another_loss import another_loss
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.same_attacks import not_compared, what_broke_the_base
from robustbench_coded.statistics.verdict import (
    CONDEMNED,
    MARGIN,
    Verdict,
    base_ensemble,
    verdict,
    with_checkpoint_beside,
)


def judge(
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    checks: Sequence[Check],
    *,
    margin: float = MARGIN,
    claim: Claim | None = None,
    tail: float = TAIL,
) -> tuple[Verdict, tuple[Check, ...]]:
    """The verdict, and ``checks`` with those that were asked for because of the word.

    Args:
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
        checks: those of the threat model, from `run_checks`, and of the self-tests.
        margin, claim, tail: as for `verdict`.
    """
    base = base_ensemble(rows, ensemble)
    made, asked = _judged(rows, ensemble, base, checks, margin, claim, tail)
    found = with_checkpoint_beside(made, rows, ensemble), asked
    if ensemble.complete and (base is None or base.complete):
        return found
    whole = ensemble if ensemble.complete else ensemble.of_complete
    whole_base = base if base is None or base.complete else base.of_complete
    if whole is None or (base is not None and whole_base is None):
        return found
    complete = [row for row in rows if row.complete]
    made, asked = _judged(complete, whole, whole_base, checks, margin, None, tail)
    if made.word not in CONDEMNED:
        return found
    said = f"{made.reason} Outcomes of other attacks are missing, and those attacks do not count."
    return replace(made, reason=said, claim=found[0].claim), asked


def _judged(
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    base: CaseResult | None,
    checks: Sequence[Check],
    margin: float,
    claim: Claim | None,
    tail: float,
) -> tuple[Verdict, tuple[Check, ...]]:
    found = verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail)
    if found.accuracy is None:
        return found, tuple(checks)
    if found.above_the_bar:
        checks = (another_loss(rows, ensemble), *checks)
        if base is not None:
            checks = (*checks, what_broke_the_base(rows, ensemble, base, margin))
        return verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail), tuple(checks)
    no_gain = found.word in (VerdictWord.NO_GAIN, VerdictWord.WORSE_THAN_BASE)
    if base is not None and no_gain and found.accuracy.high >= margin:
        doubt = not_compared(rows, ensemble, base)
        found = verdict(ensemble, base, checks, margin=margin, claim=claim, tail=tail, doubt=doubt)
    return found, tuple(checks)
