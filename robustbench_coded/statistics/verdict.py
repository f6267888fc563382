"""The verdict on a defence under one threat model, by intervals.

    verdict(ensemble, base, checks, claim=None) -> Verdict
    base_ensemble(rows, ensemble)               -> CaseResult | None     what to hand over as ``base``

The words, for the accuracy of the ensemble of all attacks:

* ``no gain``: at most 3 points above the base model's own ensemble, and the upper end of that difference at
  most 6;
* ``broken``, where there is no base model to compare with: the upper end is at most 5 points;
* ``no failure found``: certainly more than that, and every check passed. An upper bound on robustness, never
  a proof;
* ``not settled``: the interval is too wide for either, a check failed or was not run, or outcomes are
  missing;
* ``claim refuted``: the upper end is below the accuracy that was claimed. It goes before the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_coded.schema.controls import ENSEMBLE, STANDARD
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CheckOutcome, VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.paired import Difference, NotPaired, paired_difference

GAIN = 0.03  # points above the base model that count as no gain
GAIN_HIGH = 0.06  # and how far the interval may reach
BROKEN = 0.05


@dataclass(frozen=True)
class Verdict:
    """The word, why, and the figures it came from (fractions).

    Attributes:
        reason: one sentence.
        accuracy: of the ensemble; None without outcomes.
        above_base: accuracy less that of the base model's ensemble, paired; None without a base.
        open_checks: names of the checks that did not pass.
    """

    word: VerdictWord
    reason: str
    accuracy: Interval | None
    above_base: Difference | None = None
    claim: float | None = None
    open_checks: tuple[str, ...] = ()


def verdict(
    ensemble: CaseResult, base: CaseResult | None, checks: Sequence[Check], claim: float | None = None
) -> Verdict:
    """Judges one threat model.

    Args:
        ensemble: the defence's `ensemble` row under the threat model.
        base: the base model's own `ensemble` row for the same budget; None where there is none.
        checks: those of this threat model, from `run_checks`.
        claim: the accuracy that is claimed for the defence, a fraction.
    """
    accuracy = ensemble.interval()
    above = _above(ensemble, base)
    unpassed = [check for check in checks if check.outcome != CheckOutcome.PASSED]

    def judged(word: VerdictWord, reason: str) -> Verdict:
        return Verdict(word, reason, accuracy, above, claim, tuple(check.name for check in unpassed))

    if accuracy is None:
        return judged(VerdictWord.NOT_SETTLED, "There are no outcomes yet.")
    left = f"The ensemble leaves {_percent(accuracy.estimate)} ({_range(accuracy.low, accuracy.high)})"
    if claim is not None and accuracy.high < claim:
        return judged(VerdictWord.CLAIM_REFUTED, f"{left}, all of it below the claimed {_percent(claim)}.")
    if not ensemble.complete or (base is not None and not base.complete):
        return judged(VerdictWord.NOT_SETTLED, f"{left}, but outcomes are missing.")
    if base is None:
        small, large = accuracy.high <= BROKEN, accuracy.low > BROKEN
        word = VerdictWord.BROKEN
        compared = left
        bar = f"broken means at most {_percent(BROKEN)}"
    elif above is None:
        return judged(
            VerdictWord.NOT_SETTLED, f"{left}, which cannot be paired with the base model's outcomes."
        )
    else:
        small, large = above.estimate <= GAIN and above.high <= GAIN_HIGH, above.low > GAIN
        word = VerdictWord.NO_GAIN
        compared = (
            f"The ensemble leaves {_percent(above.first)} where it leaves the base model "
            f"{_percent(above.second)}: {above}"
        )
        bar = f"no gain means at most {100 * GAIN:g} points and an upper end of {100 * GAIN_HIGH:g}"
    if small:
        return judged(word, f"{compared}; {bar}.")
    if not large:
        return judged(VerdictWord.NOT_SETTLED, f"{compared}; {bar}, and the interval is too wide to tell.")
    if unpassed:
        named = ", ".join(f"{check.name} ({check.outcome})" for check in unpassed)
        return judged(VerdictWord.NOT_SETTLED, f"{compared}, but not every check passed: {named}.")
    return judged(
        VerdictWord.NO_FAILURE_FOUND, f"{compared}, and every check passed: an upper bound, not a proof."
    )


def base_ensemble(rows: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The ensemble of standard inference on the same checkpoint and budget, which serves every threat model.

    None for standard inference itself, for a defence that names no base model, and where it was not run.
    """
    wanted = ensemble.key.of_attack(ENSEMBLE)._replace(defence=STANDARD, k=None, n=None, threat=WHOLE_BATCH)
    if ensemble.key.defence == STANDARD or not ensemble.has_base:
        return None
    return next((row for row in rows if row.key == wanted), None)


def _above(ensemble: CaseResult, base: CaseResult | None) -> Difference | None:
    if base is None:
        return None
    try:
        return paired_difference(ensemble, base)
    except NotPaired:
        return None


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}"


def _range(low: float, high: float) -> str:
    return f"{_percent(low)} to {_percent(high)}"
