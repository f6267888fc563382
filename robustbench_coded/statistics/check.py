"""What a check reports, and when a comparison of two attacks fails one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.next_steps import NextStep, run_attacks
from robustbench_coded.statistics.paired import Difference

WORTH = 0.005  # half a point of accuracy: with many examples, smaller differences leave out 0, too
TELLS = 0.06  # a comparison that leaves a larger difference open says nothing


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: a `CheckName`, or that of one self-test.
        finding: one sentence.
        figures: accuracies and differences as fractions, shares and cosines, by name.
        attacks: the attacks compared.
        next_step: what to do next; None where the check is passed.
        run_next: names of the attacks that the next step asks for.
    """

    name: str
    outcome: CheckOutcome
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    next_step: NextStep | None = None
    run_next: tuple[str, ...] = ()


def not_run(name: CheckName, finding: str, *run_next: str) -> Check:
    """A check that lacks outcomes of the attacks ``run_next``."""
    return Check(name, CheckOutcome.NOT_RUN, finding, next_step=run_attacks(*run_next), run_next=run_next)


def compared(
    name: CheckName,
    larger: CaseResult,
    smaller: CaseResult,
    difference: Difference,
    fault: str,
    *run_next: str,
) -> Check:
    """Fails where ``larger``, expected to leave no more than ``smaller``, certainly does.

    It counts as not run where the interval is so wide that it could not have failed.

    Args:
        difference: accuracy of ``larger`` less that of ``smaller``.
        fault: what it means if so, as a clause.
    """
    figures = {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.estimate,
        "low": difference.low,
        "high": difference.high,
    }
    attacks = (larger.key.attack, smaller.key.attack)
    finding = (
        f"{attacks[0]} leaves {difference.first:.1%} and {attacks[1]} {difference.second:.1%}: {difference}"
    )
    if difference.low > 0 and difference.estimate >= WORTH:
        next_step = run_attacks(*run_next)
        return Check(name, CheckOutcome.FAILED, f"{finding}: {fault}.", figures, attacks, next_step, run_next)
    if difference.high > TELLS:
        finding = f"{finding}: too few batches or examples to tell."
        return Check(
            name,
            CheckOutcome.NOT_RUN,
            finding,
            figures,
            attacks,
            NextStep("evaluate more examples (--limit)"),
        )
    return Check(name, CheckOutcome.PASSED, f"{finding}.", figures, attacks)
