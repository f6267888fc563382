"""What a check reports, what is to be done next, and when a comparison of two attacks fails one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.comparisons import accuracy_of
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.paired import NotPaired, paired_difference

WORTH = 0.005  # half a point of accuracy: with many examples, smaller differences leave out 0, too
TELLS = 0.06  # a comparison that leaves a larger difference open says nothing
MORE_EXAMPLES = "evaluate more examples (--limit)"


@dataclass(frozen=True)
class NextStep:
    """Attacks to run, or something else to do.

    Attributes:
        do: what to do where no attack is asked for, as "run it again".
        attacks: names, in order.
        how: how the attacks are to be run, as "at that eps"; empty for the settings of the run.
    """

    do: str = ""
    attacks: tuple[str, ...] = ()
    how: str = ""

    def __str__(self) -> str:
        """One clause; attacks as the option to paste behind the command of the run."""
        if not self.attacks:
            return self.do
        option = f"add --attacks {','.join(self.attacks)}"
        return f"{self.how}, {option}" if self.how else option


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: a `CheckName`, or that of one self-test.
        finding: one sentence.
        figures: accuracies and differences as fractions, shares and cosines, by name.
        attacks: the attacks compared.
        next_step: what to do next; None where the check is passed.
    """

    name: str
    outcome: CheckOutcome
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    next_step: NextStep | None = None

    @property
    def passed(self) -> bool:
        return self.outcome == CheckOutcome.PASSED

    @property
    def failed(self) -> bool:
        return self.outcome == CheckOutcome.FAILED

    @property
    def run_next(self) -> tuple[str, ...]:
        """Names of the attacks that the next step asks for."""
        return () if self.next_step is None else self.next_step.attacks


def run_attacks(*attacks: str, how: str = "") -> NextStep | None:
    """The step that runs ``attacks``, each once; None without any."""
    return NextStep(attacks=tuple(dict.fromkeys(attacks)), how=how) if attacks else None


def merged_steps(steps: Iterable[NextStep]) -> tuple[NextStep, ...]:
    """The steps in their order; those that run attacks in the same way are one step, with all its attacks.

    An attack that an earlier step names is not named again.
    """
    merged: dict[tuple[str, str], NextStep] = {}
    named: set[str] = set()
    for step in steps:
        fresh = tuple(attack for attack in step.attacks if attack not in named)
        if step.attacks and not fresh:
            continue
        named.update(fresh)
        before = merged.setdefault((step.do, step.how), replace(step, attacks=()))
        merged[step.do, step.how] = replace(before, attacks=(*before.attacks, *fresh))
    return tuple(merged.values())


def passed(name: str, finding: str, *attacks: str, **figures: float) -> Check:
    """A check that is passed."""
    return Check(name, CheckOutcome.PASSED, finding, figures, attacks)


def not_run(name: str, finding: str, *run_next: str) -> Check:
    """A check that lacks outcomes of the attacks ``run_next``."""
    return Check(name, CheckOutcome.NOT_RUN, finding, next_step=run_attacks(*run_next))


def nothing_left(name: CheckName, best: CaseResult) -> Check | None:
    """The check, passed because the strongest attack concerned leaves half a point or less; else None."""
    left, attack = accuracy_of(best), best.key.attack
    if left > WORTH:
        return None
    return passed(name, f"{attack} leaves {left:.1%}: nothing is left to find.", attack, accuracy=left)


def compared(
    name: CheckName,
    larger: CaseResult,
    smaller: CaseResult,
    fault: str,
    *run_next: str,
    tail: float = TAIL,
) -> Check | None:
    """Fails where ``larger``, expected to leave no more than ``smaller``, certainly does, by half a point.

    It counts as not run where the interval of the paired difference is so wide that it could not have failed.

    Args:
        fault: what it means if so, as a clause.
        run_next: attacks to run if it fails.
        tail: with which probability each end of the interval may err.

    Returns:
        None where the two rows have nothing in common.
    """
    try:
        difference = paired_difference(larger, smaller, tail)
    except NotPaired:
        return None
    first, second, estimate = difference.first, difference.second, difference.estimate
    low, high = difference.low, difference.high
    attacks = (larger.key.attack, smaller.key.attack)
    finding = f"{attacks[0]} leaves {first:.1%} and {attacks[1]} {second:.1%}: {difference}"
    found = passed(
        name, f"{finding}.", *attacks, first=first, second=second, difference=estimate, low=low, high=high
    )
    if low > 0 and estimate >= WORTH:
        step, finding = run_attacks(*run_next), f"{finding}: {fault}."
        return replace(found, outcome=CheckOutcome.FAILED, finding=finding, next_step=step)
    if high > TELLS:
        finding = f"{finding}: too few batches or examples to tell."
        step = NextStep(MORE_EXAMPLES)
        return replace(found, outcome=CheckOutcome.NOT_RUN, finding=finding, next_step=step)
    return found
