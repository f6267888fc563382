"""Whether relaxed attacks settle what the gradients leave open that a defence shows.

    answered_by_relaxed(checks, rows, ensemble, stopped) -> checks

An operator that rounds, compares or chooses leaves no gradient, or one that says nothing, and self-tests of
the gradient fail. With smooth operators there may be one that leads somewhere. Those self-tests count as
answered where all of the following hold:

* *relaxed gradients* passed: the same self-tests with the operators relaxed;
* no attack of another kind leaves half a point less than the strongest relaxed one, decision-based ones in
  two lengths among them, of which the longer one finds at most half a point more;
* the ensemble, which has what was made of the relaxed attacks' inputs, leaves at most 3 points less;
* the ensemble leaves more than uninformative inputs would.

That the relaxed attacks are long enough and followed another loss than cross-entropy are checks of their own.
"""

from collections.abc import Collection, Sequence

from attacks.submitted import PREFIX, split_submitted
from robustbench_coded.schema.words import RELAXED_CHECK, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import WORTH, Check
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    difference_of,
    is_adaptive,
    lowest,
    name_of,
    usable_by,
)
from robustbench_coded.statistics.floor import exchanged_accuracy
from robustbench_coded.statistics.without_gradients import OF_THE_GRADIENT, REACHES, passed_by, two_lengths


def answered_by_relaxed(
    checks: Sequence[Check], rows: Sequence[CaseResult], ensemble: CaseResult, stopped: Collection[str] = ()
) -> tuple[Check, ...]:
    """The checks, those of the gradient passed where relaxed attacks answer them.

    Args:
        checks: of one threat model, self-tests included.
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
        stopped: attacks on this defence that a budget of images ended before their length.
    """
    if not any(check.name == RELAXED_CHECK and check.outcome == CheckOutcome.PASSED for check in checks):
        return tuple(checks)
    usable = [row for row in usable_by(rows, ensemble) if row.complete and row.key.attack not in stopped]
    finding = _finding(usable, ensemble)
    return tuple(
        passed_by(check, f"answered by relaxed gradients: {finding}")
        if finding and str(check.name) in OF_THE_GRADIENT and check.outcome == CheckOutcome.FAILED
        else check
        for check in checks
    )


def _finding(usable: Sequence[CaseResult], ensemble: CaseResult) -> str:
    """What relaxed attacks and the others say, a clause; '' where they answer nothing."""
    relaxed = [row for row in usable if is_adaptive(name_of(row)) and name_of(row).relaxed]
    others = [row for row in usable if row not in relaxed and not _made_of_its_own(row, ensemble)]
    lengths = two_lengths(others)
    if not relaxed or lengths is None or ensemble.clean is None:
        return ""
    best, left = lowest(relaxed), accuracy_of(ensemble)
    if left <= exchanged_accuracy(ensemble.clean) + WORTH or accuracy_of(best) - left > REACHES:
        return ""
    gained, beaten = difference_of(*lengths), difference_of(best, lowest(others))
    if gained is None or beaten is None or max(gained.estimate, beaten.estimate) > WORTH:
        return ""
    return (
        f"{best.key.attack} leaves {accuracy_of(best):.1%}, {lowest(others).key.attack} "
        f"{accuracy_of(lowest(others)):.1%} and the ensemble {left:.1%}"
    )


def _made_of_its_own(row: CaseResult, ensemble: CaseResult) -> bool:
    """Whether it submits what this defence's own attacks found, shrunk or rounded."""
    attack = row.key.attack
    return attack.startswith(PREFIX) and split_submitted(attack)[0] == ensemble.key.defence
