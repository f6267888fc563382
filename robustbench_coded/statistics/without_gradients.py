"""Whether attacks that ask for answers alone settle what a defence's gradients leave open.

A gradient that is zero, jumps, or says nothing about the answers does not make a defence robust, and does not
make it weak. What it does is to silence attacks with gradients. Checks of the gradient that failed
count as answered where attacks without gradients have had theirs (arXiv 1902.06705, section 4.5):

* a decision-based attack ran in two lengths, and the one twice as long finds at most half a point more;
* no attack without gradients leaves half a point less than the strongest of the others;
* the strongest attack without gradients leaves at most 3 points more than the ensemble. It may be as weak
  as the gradients are otherwise, and then its silence is no evidence. Or there is no gradient at all, so
  that none misleads, the checkpoint underneath passed every self-test, and the ensemble, which has the
  checkpoint's perturbed inputs, leaves at most 3 points more than the checkpoint keeps;
* the ensemble leaves more than uninformative inputs would.

Checks of anything else (the base model, answers that change with the gradient mode or right beside the clean
input) stand as they are.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from attacks.catalogue import DECISION_BASED
from attacks.naming import parse
from attacks.submitted import PREFIX, split_submitted
from robustbench_coded.schema.controls import STANDARD
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import WORTH, Check
from robustbench_coded.statistics.checks import exchanged_accuracy
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    difference_of,
    differs_only_in,
    is_black_box,
    lowest,
    name_of,
    usable_by,
)
from robustbench_coded.statistics.next_steps import WITHOUT_GRADIENTS, run_attacks

SILENT = 0.9  # share of inputs without any gradient from which on a defence has none
REACHES = 0.03  # how far from the ensemble the strongest attack without gradients may stay
# To begin with, after the cheapest of all: a difference between the two lengths asks for the next one.
ASKED_FIRST = ("surrogate-pgd-20", "rays-400", "rays-800")
STRONGER = ("hopskipjump-800", "square-1000")

OF_THE_GRADIENT = frozenset(
    {
        CheckName.ZERO_GRADIENTS,
        *(f"{CheckName.SELF_TESTS}: {name}" for name in GRADIENT_SELF_TESTS),
    }
)


def answered_without_gradients(
    checks: Sequence[Check],
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    stopped: Collection[str] = (),
    *,
    network_passed: bool = False,
) -> tuple[Check, ...]:
    """The checks, those of the gradient passed where attacks without gradients answer them.

    Args:
        checks: of one threat model, self-tests included.
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
        stopped: attacks on this defence that a budget of images ended before their length.
        network_passed: whether the checkpoint behind standard inference passed every self-test.
    """
    failed = [c for c in checks if str(c.name) in OF_THE_GRADIENT and c.outcome == CheckOutcome.FAILED]
    if not failed:
        return tuple(checks)
    usable = [row for row in usable_by(rows, ensemble) if row.complete and row.key.attack not in stopped]
    network = _network(rows, usable, ensemble) if network_passed and any(map(_silent, failed)) else None
    finding, more = _finding(usable, ensemble, network)
    if more is None:
        answer = f"answered without gradients: {finding}"
        return tuple(passed_by(check, answer) if check in failed else check for check in checks)
    ran = {row.key.attack for row in usable}
    return tuple(
        _asking(check, finding, more, ran, ensemble) if check in failed else check for check in checks
    )


def _silent(check: Check) -> bool:
    return check.figures.get("zero_share", 0.0) >= SILENT


def _network(
    rows: Sequence[CaseResult], usable: Sequence[CaseResult], ensemble: CaseResult
) -> CaseResult | None:
    """The ensemble of the checkpoint alone, if its perturbed inputs were submitted to the defence."""
    wanted = ensemble.key._replace(defence=STANDARD, k=None, n=None, threat=WHOLE_BATCH)
    found = next((row for row in rows if row.key == wanted and row.complete), None)
    submitted = (split_submitted(row.key.attack) for row in usable if row.key.attack.startswith(PREFIX))
    return found if any(subject == STANDARD for subject, _, _ in submitted) else None


def _finding(
    usable: Sequence[CaseResult], ensemble: CaseResult, network: CaseResult | None
) -> tuple[str, tuple[str, ...] | None]:
    """What attacks without gradients say, a clause; and what to run next, None where nothing is left open.

    Args:
        network: the ensemble of the checkpoint underneath, where that may answer for the defence.
    """
    blind = [row for row in usable if _asks_for_answers(row)]
    seeing = [row for row in usable if not _asks_for_answers(row)]
    decisions = [row for row in blind if name_of(row).algorithm in DECISION_BASED]
    if not decisions or ensemble.cell is None:
        return "no attack by labels alone ran", ASKED_FIRST
    best, left = lowest(blind), accuracy_of(ensemble)
    if ensemble.clean is not None and left <= exchanged_accuracy(ensemble.clean) + WORTH:
        # A constant answer resists every attack, and so do labels.
        return f"the ensemble leaves {left:.1%}, no more than uninformative inputs would", ()
    said = f"{best.key.attack} leaves {accuracy_of(best):.1%} and the ensemble {left:.1%}"
    wanted: list[str] = []
    longer = two_lengths(decisions)
    gained = difference_of(*longer) if longer is not None else None
    if longer is None or gained is None:
        said += ", but no attack by labels alone ran in two lengths"
        wanted += ASKED_FIRST
    elif gained.estimate > WORTH:
        said += f", but {longer[1].key.attack} finds more than {longer[0].key.attack}"
        wanted.append(_doubled(longer[1]))
    beaten = difference_of(lowest(seeing), best) if seeing else None
    if beaten is not None and beaten.estimate > WORTH:
        said += ", but no attack with gradients found as much"
        wanted.append(_doubled(max(decisions, key=lambda row: name_of(row).steps or 0)))
    if network is not None and left - accuracy_of(network) <= REACHES:
        said += f", and its checkpoint, which can be attacked, keeps {accuracy_of(network):.1%}"
    elif accuracy_of(best) - left > REACHES:
        said += ", but attacks without gradients are too weak here to answer for it"
        wanted += STRONGER
    return said, tuple(dict.fromkeys(wanted)) or None


def _asks_for_answers(row: CaseResult) -> bool:
    """Whether it searches this defence by its answers, as inputs made elsewhere and submitted do not."""
    name = name_of(row)
    return is_black_box(name) and not name.is_submitted


def two_lengths(rows: Sequence[CaseResult]) -> tuple[CaseResult, CaseResult] | None:
    """The longest decision-based attack that also ran at half its length, after that one."""
    decisions = [row for row in rows if name_of(row).algorithm in DECISION_BASED]
    pairs = [
        (fewer, more)
        for fewer in decisions
        for more in decisions
        if name_of(more).steps == 2 * (name_of(fewer).steps or 0)
        and differs_only_in(name_of(fewer), name_of(more), "steps")
    ]
    return max(pairs, key=lambda pair: name_of(pair[1]).steps or 0, default=None)


def _doubled(row: CaseResult) -> str:
    name = name_of(row)
    return name.text.replace(f"-{name.steps}", f"-{2 * (name.steps or 1)}", 1)


def passed_by(check: Check, answer: str) -> Check:
    """The check, passed because of ``answer``, a clause."""
    said = f"{check.finding.rstrip('.')}; {answer}."
    return replace(check, outcome=CheckOutcome.PASSED, finding=said, next_step=None, run_next=())


def _asking(
    check: Check, finding: str, more: tuple[str, ...], ran: Collection[str], ensemble: CaseResult
) -> Check:
    """The check with what attacks without gradients say, and the attacks that are left to run."""
    said = f"{check.finding.rstrip('.')}; without gradients: {finding}."
    wanted = tuple(dict.fromkeys((*check.run_next, *more)))
    # A defence without a base model has none to transfer from.
    possible = [attack for attack in wanted if ensemble.has_base or not parse(attack).uses_base]
    left = [attack for attack in possible if attack not in ran]
    next_step = run_attacks(*left, how=WITHOUT_GRADIENTS)
    return replace(check, finding=said, next_step=next_step, run_next=wanted)
