"""Checks: their findings, their next steps, and which attacks may be compared with one another.

Names of attacks say which of them can be compared; a comparison of two says when a check fails.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from msgspec import structs

from attacks.attack import AnyAttack, Attack, read_attack, suited
from robustbench_coded.judge.case_results import CaseResult, inherited
from robustbench_coded.judge.outcomes import DIGITS
from robustbench_coded.judge.paired import Difference, NotPaired, in_own_batches, paired_difference
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject
from robustbench_coded.schema.words import COMBINED, CONTROLS, ENSEMBLE, STANDARD, CheckName, CheckOutcome

FEWEST_STEPS = 10  # of an attack whose figure says what a network keeps


def usable_by(results: Sequence[CaseResult], ensemble: CaseResult) -> list[CaseResult]:
    """The attacks that this attacker has: his own and those of the attacker who does not know the draw.

    In an order of their own, so that the order in which attacks were named decides no tie: adaptive ones
    first, then by name.
    """
    own = [result for result in results if result.case.setting == ensemble.case.setting]
    every = (row for row in (*own, *inherited(ensemble.case, results)) if row.cell is not None)
    usable = [row for row in every if row.case.attack not in (*CONTROLS, *COMBINED)]
    return sorted(usable, key=lambda result: (not is_adaptive(result.made_by), result.case.attack))


def checkpoints_ensemble(results: Sequence[CaseResult], ensemble: CaseResult) -> CaseResult | None:
    """The ensemble of standard inference, even if the defence names another base model."""
    checkpoint, perturbation = ensemble.case.subject.checkpoint, ensemble.case.perturbation
    wanted = Case(Subject(checkpoint, STANDARD, None, None), WHOLE_BATCH, perturbation, ENSEMBLE)
    if ensemble.case.subject.defence == STANDARD:
        return None
    return next((result for result in results if result.case == wanted), None)


def is_black_box(attack: AnyAttack) -> bool:
    """True if it uses no gradients of the defence."""
    return attack.knows == "submitted" or attack.declared.asks_answers_alone


def is_adaptive(attack: AnyAttack) -> bool:
    """True if its gradients come through the defence itself."""
    return attack.knows != "transfer" and not is_black_box(attack)


def informative(attack: AnyAttack) -> bool:
    """True if an attack's figure says what a network keeps: it follows gradients for ten steps or more.

    An attack towards a single target, or in a part of the ball, does not either.
    """
    elsewhere = is_black_box(attack) or attack.target is not None
    if elsewhere or not attack.declared.informative:
        return False
    return attack.steps is None or attack.steps >= FEWEST_STEPS


def on_cross_entropy(attack: AnyAttack) -> bool:
    """True if the attack raises the cross-entropy, by gradients."""
    return _loss(attack) == "ce" and not is_black_box(attack)


def on_another_loss(attack: AnyAttack) -> bool:
    """True if the attack is informative and raises a margin; what one of the user's own raises is unknown."""
    return informative(attack) and _loss(attack) not in (None, "ce")


def _loss(attack: AnyAttack) -> str | None:
    return dict(attack.options).get("loss", attack.declared.loss)


def differs_only_in(first: AnyAttack, other: AnyAttack, field: Literal["steps", "eot"]) -> bool:
    """True if two attacks are the same but for a field that those of this package have."""
    if isinstance(first, Attack) and isinstance(other, Attack):
        first = structs.replace(first, **{field: getattr(other, field)})
    return first == other


def guesses_draw(ensemble: CaseResult) -> bool:
    """True if the attacker does not know which draw will answer."""
    return ensemble.randomised and not ensemble.case.threat.draw_known


def lowest(results: Sequence[CaseResult]) -> CaseResult:
    """The result with the lowest accuracy; the first one of a tie."""
    return min(results, key=accuracy_of)


def accuracy_of(result: CaseResult) -> float:
    """The reported accuracy; 1 without outcomes."""
    return 1.0 if result.cell is None else float(np.mean(result.cell.correct))


def left_more(first: CaseResult, second: CaseResult) -> float:
    """By how much the accuracy of ``first`` is higher."""
    return round(accuracy_of(first) - accuracy_of(second), DIGITS)


def difference_of(first: CaseResult, second: CaseResult, *, own: bool = False) -> Difference | None:
    """`paired_difference`, or `in_own_batches`; None where the two results cannot be paired."""
    try:
        return in_own_batches(first, second) if own else paired_difference(first, second)
    except NotPaired:
        return None


WORTH = 0.005  # half a point of accuracy: with many examples, smaller differences leave out 0, too
TELLS = 0.06  # a comparison that leaves a larger difference open says nothing


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: a `CheckName`, or that of one self-test.
        finding: one sentence.
        attacks: the attacks compared.
        run_next: the attacks that may pass it; none where it is passed, or something else is open.
        brief: what a verdict says in a few words that it leaves open.
    """

    name: str
    outcome: CheckOutcome
    finding: str
    attacks: tuple[str, ...] = ()
    run_next: tuple[str, ...] = ()
    brief: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == CheckOutcome.PASSED

    @property
    def failed(self) -> bool:
        return self.outcome == CheckOutcome.FAILED


def advised(checks: Iterable[Check], norm: str, ran: Collection[str] = ()) -> tuple[Check, ...]:
    """The checks, which ask for attacks that know the norm and have not run there.

    Args:
        ran: names of the attacks that ran, whole, under the judged threat model and perturbation.
    """

    def fresh(check: Check) -> tuple[str, ...]:
        attacks = {name: suited(read_attack(name), norm) for name in check.run_next if name not in CONTROLS}
        known = (str(attacks.get(name, name)) for name in check.run_next)
        return tuple(name for name in dict.fromkeys(known) if not {name, f"relaxed-{name}"} & {*ran})

    return tuple(replace(check, run_next=fresh(check)) for check in checks)


def passed(name: str, finding: str, *attacks: str) -> Check:
    """A check that is passed."""
    return Check(name, CheckOutcome.PASSED, finding, attacks)


def not_run(name: str, finding: str, *run_next: str) -> Check:
    """A check that lacks outcomes of the attacks ``run_next``."""
    return Check(name, CheckOutcome.NOT_RUN, finding, run_next=run_next)


def passed_at_zero(name: CheckName, best: CaseResult) -> Check | None:
    """The check, passed because the strongest attack concerned leaves half a point or less; else None."""
    accuracy, attack = accuracy_of(best), best.case.attack
    if accuracy > WORTH:
        return None
    return passed(name, f"{attack} leaves {accuracy:.1%}: nothing is left to find.", attack)


def compared(
    name: CheckName,
    larger: CaseResult,
    smaller: CaseResult,
    fault: str,
    *run_next: str,
) -> Check | None:
    """Fails where ``larger``, expected to leave no more than ``smaller``, certainly does, by half a point.

    It counts as not run where the interval of the paired difference is so wide that it could not have failed,
    and for single victims where the difference is half a point, certain or not.
    Answers that depend on their batch count as any others: the question is which attack found more of these
    very batches. How other batches fare is a question to the accuracy, whose interval goes by batches.

    Args:
        fault: what it means if so, as a clause.
        run_next: attacks to run if it fails.

    Returns:
        None where the two results have nothing in common.
    """
    difference = difference_of(larger, smaller, own=True)
    if difference is None:
        return None
    less, attacks = round(difference.estimate, DIGITS), (larger.case.attack, smaller.case.attack)
    accuracies = f"{attacks[0]} leaves {difference.first:.1%} and {attacks[1]} {difference.second:.1%}"
    finding = f"{accuracies}: {difference}"
    check = passed(name, f"{finding}.", *attacks)
    if difference.low > 0 and less >= WORTH:
        finding = f"{finding}: {fault}."
        return replace(check, outcome=CheckOutcome.FAILED, finding=finding, run_next=run_next)
    if larger.case.threat.one_victim:  # each costs a batch: few, so that the difference seen has to do
        if less <= WORTH:
            return check
        return replace(check, outcome=CheckOutcome.NOT_RUN, run_next=run_next)
    if difference.high > TELLS:
        finding = f"{finding}: too few batches or examples to tell."
        return replace(check, outcome=CheckOutcome.NOT_RUN, finding=finding)
    return check
