"""The verdict on a defence under one threat model, by intervals.

    verdict(ensemble, base, checks, margin=MARGIN, claim=None) -> Verdict
    base_ensemble(rows, ensemble) -> CaseResult | None     what to hand over as ``base``

The words, for the gain: the accuracy that the ensemble of all attacks leaves the defence, less what it leaves
its base model, paired:

* ``worse than its base``: the upper end of the gain is below 0;
* ``no gain``: it is below the margin;
* ``broken``: it may be above, but inputs are answered one by one, and the upper end of the accuracy is at
  most a twentieth of the clean accuracy above what uninformative inputs leave (`floor.py`);
* ``no failure found``: the lower end is above the margin, and every check and self-test passed. An upper
  bound on robustness, never a proof;
* ``not settled``: anything else, with what would settle it.

Where there is no base model to compare with (standard inference itself, a defence that names none):

* ``broken``: as above, or the clean accuracy is no better than a constant answer's;
* ``no failure found``: the lower end is above that, and every check and self-test passed; else ``not
  settled``.

``claim refuted`` goes before the others: the upper end of the accuracy that a claim is about, under its
threat model and budget, is below the claim, and no outcomes are missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robustbench_coded.schema.claim import Claim, ClaimedAccuracy
from robustbench_coded.schema.controls import ENSEMBLE, STANDARD
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CheckOutcome, VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.correlation import UNMEASURED
from robustbench_coded.statistics.draws import plurality
from robustbench_coded.statistics.floor import SHARE_OF_CLEAN, broken_below, exchanged_accuracy, uninformative
from robustbench_coded.statistics.intervals import TAIL, Interval, accuracy_interval
from robustbench_coded.statistics.next_steps import merged_steps
from robustbench_coded.statistics.paired import Difference, NotPaired, paired_difference

MARGIN = 0.03  # a gain that is certainly smaller is none
NEXT_TO_NOTHING = 0.05  # of an accuracy: a stronger attack has little left to find
NEXT_STEPS_TOLD = 3
CONDEMNED = frozenset({VerdictWord.BROKEN, VerdictWord.NO_GAIN, VerdictWord.WORSE_THAN_BASE})


@dataclass(frozen=True)
class Verdict:
    """The word, why, and the figures it came from (fractions).

    Attributes:
        reason: one or two sentences.
        accuracy: of the ensemble; None without outcomes.
        bar: what the gain, or without a base model the accuracy, is held against.
        compared: whether the gain is, because the defence names a base model.
        broken_at: the accuracy up to which it is broken.
        gain: accuracy less that of the base model's ensemble, paired; None without a base.
        clean: accuracy on unperturbed inputs, of the same examples and draws.
        clean_loss: that of the base model less ``clean``, paired; None without a base.
        beside: accuracy less that of the checkpoint's ensemble, paired, if the defence names no base model.
            No word depends on it: the defence may have nothing to do with the checkpoint.
        claim: what was claimed under this threat model and budget.
        claimed: the accuracy that the claim is about, as the ensemble leaves it; None if any is missing.
        open_checks: names of the checks that did not pass.
    """

    word: VerdictWord
    reason: str
    accuracy: Interval | None
    bar: float
    compared: bool = False
    broken_at: float = 0.0
    gain: Difference | None = None
    clean: Interval | None = None
    clean_loss: Difference | None = None
    claim: Claim | None = None
    claimed: Interval | None = None
    open_checks: tuple[str, ...] = ()
    beside: Difference | None = None

    @property
    def above_the_bar(self) -> bool:
        """Whether the figures leave room for praise, so that it depends on checks alone."""
        if self.compared:
            return self.gain is not None and self.gain.low > self.bar
        return self.accuracy is not None and self.accuracy.low > self.bar

    @property
    def could_fall(self) -> bool:
        """Whether a stronger attack has a question to answer: what it leaves could change this word, or, of a
        base model, those of its defences.
        """
        if self.word in (VerdictWord.CLAIM_REFUTED, VerdictWord.NO_GAIN, VerdictWord.WORSE_THAN_BASE):
            return False
        if self.accuracy is None or (self.gain is not None and self.gain.estimate <= self.bar):
            return False
        return self.accuracy.estimate > NEXT_TO_NOTHING


def verdict(
    ensemble: CaseResult,
    base: CaseResult | None,
    checks: Sequence[Check],
    *,
    margin: float = MARGIN,
    claim: Claim | None = None,
    tail: float = TAIL,
    doubt: str = "",
) -> Verdict:
    """Judges one threat model.

    Args:
        ensemble: the defence's `ensemble` row under the threat model.
        base: the base model's own `ensemble` row for the same budget; None where there is none.
        checks: those of this threat model, from `run_checks`.
        margin: the gain that counts, a fraction.
        claim: what is claimed for the defence; it says nothing here if it is about another threat model or
            budget.
        tail: with which probability each end of an interval may err.
        doubt: why the lack of a gain cannot be believed, as a clause; '' where it can be.
    """
    if claim is not None and not claim.is_about(ensemble.key.threat, ensemble.key.budget):
        claim = None
    gain = None if base is None else _difference(ensemble, base, tail)
    compared = ensemble.has_base and ensemble.key.defence != STANDARD
    clean = _of_clean(ensemble)
    broken_at = broken_below(ensemble.clean)
    unpassed = [check for check in checks if check.outcome != CheckOutcome.PASSED]
    made = Verdict(
        VerdictWord.NOT_SETTLED,
        "There are no outcomes yet.",
        ensemble.interval(tail),
        margin if compared else broken_at,
        compared,
        broken_at,
        gain,
        clean.interval(tail),
        None if base is None else _difference(_of_clean(base), clean, tail),
        claim,
        None if claim is None or not ensemble.complete else claimed_accuracy(claim, ensemble, tail),
        tuple(check.name for check in unpassed),
    )
    if made.accuracy is None:
        return made
    if claim is not None and made.claimed is not None and made.claimed.high < claim.value:
        return replace(made, word=VerdictWord.CLAIM_REFUTED, reason=_refuted(claim, made.claimed))
    if not ensemble.complete or (base is not None and not base.complete):
        said = f"The ensemble leaves {_told(made.accuracy)}, but outcomes are missing; run it again."
        return replace(made, reason=said)
    word, said = _against_base(made, ensemble) if compared else _alone(made, ensemble)
    if word == VerdictWord.NO_FAILURE_FOUND and unpassed:
        return replace(made, reason=f"{said}, but {_open(unpassed)}")
    if word in (VerdictWord.NO_GAIN, VerdictWord.WORSE_THAN_BASE) and doubt:
        return replace(made, reason=f"{said}, but {doubt}.")
    if word == VerdictWord.NO_FAILURE_FOUND:
        said = f"{said}; every check passed: an upper bound, not a proof"
    return replace(made, word=word, reason=f"{said}.")


def base_ensemble(rows: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The ensemble of standard inference on the same checkpoint and budget, which serves every threat model.

    None for standard inference itself, for a defence that names no base model, and where it was not run.
    """
    return checkpoints_ensemble(rows, ensemble) if ensemble.has_base else None


def checkpoints_ensemble(rows: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The same, whatever base model the defence names."""
    wanted = ensemble.key.of_attack(ENSEMBLE)._replace(defence=STANDARD, k=None, n=None, threat=WHOLE_BATCH)
    if ensemble.key.defence == STANDARD:
        return None
    return next((row for row in rows if row.key == wanted), None)


def with_checkpoint_beside(made: Verdict, rows: Sequence[CaseResult], ensemble: CaseResult) -> Verdict:
    """``made`` with what the checkpoint keeps alone, if the defence names no base model to compare with."""
    checkpoint = None if made.compared else checkpoints_ensemble(rows, ensemble)
    if checkpoint is None or made.accuracy is None or not (ensemble.complete and checkpoint.complete):
        return made
    beside = _difference(ensemble, checkpoint, TAIL)
    if beside is None:
        return made
    said = f"It names no base model; its checkpoint alone keeps {_percent(beside.second)}: {beside}."
    return replace(made, reason=f"{made.reason} {said}", beside=beside)


def _against_base(made: Verdict, ensemble: CaseResult) -> tuple[VerdictWord, str]:
    """The word by the gain, and why; praise still depends on the checks."""
    accuracy, gain, margin = made.accuracy, made.gain, f"the margin of {100 * made.bar:g}"
    assert accuracy is not None
    if gain is None:
        left = f"The ensemble leaves {_told(accuracy)}"
        if accuracy.high < made.bar:
            return VerdictWord.NO_GAIN, f"{left}: whatever its base model keeps, the gain is below {margin}"
        if _broken(accuracy, made, ensemble):
            return VerdictWord.BROKEN, f"{left}; {_what_broken_means(made, ensemble)}"
        return (
            VerdictWord.NOT_SETTLED,
            f"{left}, and its base model was not attacked: attack standard inference, too",
        )
    compared = (
        f"Under the ensemble, the defence keeps {_percent(gain.first)} and its base model "
        f"{_percent(gain.second)}: {gain}"
    )
    if gain.high < 0:
        return VerdictWord.WORSE_THAN_BASE, f"{compared}, a certain loss"
    if gain.high < made.bar:
        certain = "a significant gain, but " if gain.low > 0 else ""
        return VerdictWord.NO_GAIN, f"{compared}, {certain}below {margin}"
    if _broken(accuracy, made, ensemble):
        return VerdictWord.BROKEN, f"{compared}; {_what_broken_means(made, ensemble)}"
    if gain.low > made.bar:
        return VerdictWord.NO_FAILURE_FOUND, f"{compared}, above {margin}"
    return VerdictWord.NOT_SETTLED, f"{compared}; that interval contains {margin}; {_more(ensemble)}"


def _alone(made: Verdict, ensemble: CaseResult) -> tuple[VerdictWord, str]:
    """The word by the accuracy, where there is no base model, and why; praise still depends on the checks."""
    accuracy, clean = made.accuracy, ensemble.clean
    assert accuracy is not None
    said = f"The ensemble leaves {_told(accuracy)}; {_what_broken_means(made, ensemble)}"
    if accuracy.high <= made.bar:
        return VerdictWord.BROKEN, said
    if clean is not None and made.clean is not None and uninformative(clean, made.clean.high):
        return VerdictWord.BROKEN, f"{said}; clean inputs get no better answers than a constant one"
    if accuracy.low > made.bar:
        return VerdictWord.NO_FAILURE_FOUND, said
    return VerdictWord.NOT_SETTLED, f"{said}; the interval contains that; {_more(ensemble)}"


def _broken(accuracy: Interval, made: Verdict, ensemble: CaseResult) -> bool:
    """Whether a defence with a base model keeps too little for a gain to matter.

    Not where batches are the units of the interval: more rows tell more of their correlation, the upper end
    may rise again, and a word must not become kinder by more attacks.
    """
    return accuracy.high <= made.broken_at and not ensemble.unit_is_batch


def _what_broken_means(made: Verdict, ensemble: CaseResult) -> str:
    said, clean = f"broken means at most {_percent(made.broken_at)}", ensemble.clean
    if clean is None:
        return said
    floor, share = _percent(exchanged_accuracy(clean)), f"{100 * SHARE_OF_CLEAN:g}%"
    of = f"{share} of the clean {_percent(float(clean.correct.mean()))}"
    return f"{said}: the {floor} that uninformative inputs leave plus {of}"


def _more(ensemble: CaseResult) -> str:
    """What would make the interval shorter."""
    if ensemble.shared.unmeasured:
        return "more draws (--draws), or more examples or batches (--limit), would settle it"
    return "more examples or batches would settle it (--limit)"


def _open(unpassed: Sequence[Check]) -> str:
    """What is open, and what would settle it."""
    named = ", ".join(f"{check.name} ({check.outcome})" for check in unpassed)
    steps = merged_steps(check.next_step for check in unpassed if check.next_step)
    told = f" To settle it: {'; '.join(map(str, steps[:NEXT_STEPS_TOLD]))}." if steps else ""
    return f"not every check passed: {named}.{told}"


def _refuted(claim: Claim, claimed: Interval) -> str:
    """How the claim is refuted."""
    which = "" if claim.about == ClaimedAccuracy.MEAN else f" ({claim.about})"
    return f"{_told(claimed)} is left{which}, all of it below the claimed {_percent(claim.value)}."


def claimed_accuracy(claim: Claim, ensemble: CaseResult, tail: float = TAIL) -> Interval | None:
    """The accuracy that the claim is about, as the ensemble leaves it; None without outcomes."""
    cell = ensemble.cell
    if claim.about == ClaimedAccuracy.MEAN or cell is None:
        return ensemble.interval(tail)
    majority = claim.about == ClaimedAccuracy.MAJORITY
    right = [plurality(cell.prediction) == cell.label if majority else cell.correct.all(axis=1)]
    # What the rows show of the correlation is about single answers.
    by_batch = ensemble.unit_is_batch
    return accuracy_interval(
        np.stack(right, axis=1),
        cell.batch,
        batch_dependent=by_batch,
        correlation=UNMEASURED,
        tail=tail / max(ensemble.looks, 1),
    )


def _of_clean(row: CaseResult) -> CaseResult:
    """The same row without any attack."""
    return row.unattacked


def _difference(one: CaseResult, other: CaseResult, tail: float) -> Difference | None:
    try:
        return paired_difference(one, other, tail)
    except NotPaired:
        return None


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}"


def _told(accuracy: Interval) -> str:
    return f"{_percent(accuracy.estimate)} ({_percent(accuracy.low)} to {_percent(accuracy.high)})"
