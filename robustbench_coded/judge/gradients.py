"""An objection to a positive verdict: the gradient is useless, and nothing answers for it.

A gradient that is zero, jumps or says nothing about the answers does not make a defence robust, and does not
make it weak: it silences attacks that follow it (arXiv 1902.06705, section 4.5). Self-tests of the gradient
that failed count as answered where a decision-based attack ran in two
lengths, of which the longer finds at most half a point more, and one of these holds:

* relaxed gradients: the same self-tests passed with the operators of the defence relaxed, and the strongest
  relaxed attack leaves at most 3 points more than the ensemble. Where each query is answered by chance, a
  decision-based attack is too dear for what it says, and none is needed here;
* labels and scores alone: the strongest attack without gradients leaves at most 3 points more than the
  ensemble, and at most 3 less than the strongest of the others. It may be as weak as the gradients are
  otherwise, and then its silence is no evidence.

A decision-based attack at its end that found up to 3 points more also answers *transfer or black-box*: that
it found more is what its doubled length was asked about. Where no attack had gradients of the defence, these
attacks stand in for that check if the network that it stands around keeps as much (gradients were followed
there, and queries found as much here). In norms other than linf they are too weak to answer for anything.

Self-tests of anything else (answers when scored) stand as they are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from attacks import presets
from attacks.attack import Submitted
from robustbench_coded.judge.attack_checks import doubled_steps
from robustbench_coded.judge.case_results import CLOSE, CaseResult
from robustbench_coded.judge.checks import (
    WORTH,
    Check,
    accuracy_of,
    checkpoints_ensemble,
    difference_of,
    differs_only_in,
    is_adaptive,
    is_black_box,
    left_more,
    lowest,
    usable_by,
)
from robustbench_coded.judge.outcomes import DIGITS
from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, RELAXED_CHECK, CheckName, CheckOutcome

OF_THE_GRADIENT = frozenset(f"{CheckName.SELF_TESTS}: {name}" for name in GRADIENT_SELF_TESTS)


def answered(
    checks: Sequence[Check], results: Sequence[CaseResult], ensemble: CaseResult
) -> tuple[Check, ...]:
    """The checks, self-tests of the gradient passed where other attacks answer them.

    Args:
        checks: of one threat model, self-tests included.
        results: all results of the run.
        ensemble: the `ensemble` result of the threat model.
    """
    open_ones = [check for check in checks if check.name in OF_THE_GRADIENT and check.failed]
    if not open_ones:
        return tuple(checks)
    usable = [result for result in usable_by(results, ensemble) if result.complete]
    answer, wanted = "", tuple[str, ...]()
    if any(check.name == RELAXED_CHECK and check.passed for check in checks):
        answer = _by_relaxed(usable, ensemble)
    if not answer:
        answer, wanted = _by_labels(usable, ensemble)
        evidence = _as_its_network(results, usable, ensemble)
        if not wanted and evidence:
            answer += f"; {evidence}"
            blind = CheckName.TRANSFER_OR_BLACK_BOX, CheckOutcome.NOT_RUN
            open_ones += [check for check in checks if (check.name, check.outcome) == blind]
    if not wanted and _gained_by_length(usable):
        found_more = CheckName.TRANSFER_OR_BLACK_BOX, CheckOutcome.FAILED
        open_ones += [check for check in checks if (check.name, check.outcome) == found_more]

    def settled(check: Check) -> Check:
        finding = f"{check.finding.rstrip('.')}; {answer}."
        if not wanted:
            return replace(check, outcome=CheckOutcome.PASSED, finding=finding, run_next=())
        ran = {result.case.attack for result in usable}
        names = (*check.run_next, *wanted)
        possible = presets.possible(names, has_base=ensemble.has_base)
        asked = tuple(dict.fromkeys(name for name in possible if name not in ran))
        return replace(check, finding=finding, run_next=asked)

    return tuple(settled(check) if check in open_ones else check for check in checks)


def _by_relaxed(usable: Sequence[CaseResult], ensemble: CaseResult) -> str:
    """What relaxed attacks and the others say, a clause; '' where they answer nothing."""
    relaxed = [result for result in usable if is_adaptive(result.made_by) and result.made_by.relaxed]
    others = [result for result in usable if result not in relaxed and not _made_of_its_own(result, ensemble)]
    gained = _gained_by_length(others)
    if not relaxed or not others or (gained is None and not ensemble.randomised):
        return ""
    best, rival, accuracy = lowest(relaxed), lowest(others), accuracy_of(ensemble)
    if (gained is not None and gained.more) or left_more(best, ensemble) > CLOSE:
        return ""
    return (
        f"answered by relaxed gradients: {best.case.attack} leaves {accuracy_of(best):.1%}, "
        f"{rival.case.attack} {accuracy_of(rival):.1%} and the ensemble {accuracy:.1%}"
    )


def _by_labels(usable: Sequence[CaseResult], ensemble: CaseResult) -> tuple[str, tuple[str, ...]]:
    """What attacks without gradients say, a clause; and what to run next, () where they answer."""
    # They search this defence by its answers, as inputs made elsewhere and submitted do not.
    blind = [
        result for result in usable if is_black_box(result.made_by) and result.made_by.knows != "submitted"
    ]
    seeing = [result for result in usable if result not in blind]
    decisions = [result for result in blind if result.made_by.declared.family == "decision"]
    if not decisions:
        return "without gradients: no attack by labels alone ran", presets.BY_LABELS
    best, accuracy = lowest(blind), accuracy_of(ensemble)
    reason = f"{best.case.attack} leaves {accuracy_of(best):.1%} and the ensemble {accuracy:.1%}"
    wanted: list[str] = []
    gained = _gained_by_length(decisions)
    if gained is None:
        reason += ", but no attack by labels alone ran in two lengths"
        wanted += presets.BY_LABELS
    elif gained.more:
        reason += f", but {gained.longest.case.attack} finds more than at half its length"
        wanted.append(doubled_steps(gained.longest))
    beaten = difference_of(lowest(seeing), best, own=True) if seeing else None
    if beaten is not None and round(beaten.estimate, DIGITS) > CLOSE:
        reason += ", but no attack with gradients comes close to it"
        wanted.append(doubled_steps(max(decisions, key=lambda result: result.made_by.steps or 0)))
    at_home = ensemble.case.perturbation.norm == "linf"  # where attacks by labels search corners of the ball
    if not at_home or left_more(best, ensemble) > CLOSE:
        reason += ", but attacks without gradients are too weak here to answer for it"
        wanted += presets.LAST_RESORT
    return (f"{'' if wanted else 'answered '}without gradients: {reason}", tuple(dict.fromkeys(wanted)))


def _as_its_network(results: Sequence[CaseResult], usable: Sequence[CaseResult], ensemble: CaseResult) -> str:
    """That a defence without gradients keeps no more than its checkpoint, a clause; '' where it is not so."""
    if any(is_adaptive(result.made_by) for result in usable):
        return ""
    checkpoint = checkpoints_ensemble(results, ensemble)
    gained = None if checkpoint is None else difference_of(ensemble, checkpoint)
    if gained is None or gained.high > CLOSE:
        return ""
    return f"its checkpoint, whose gradients were followed, keeps {gained.second:.1%}: {gained}"


class _ByLength(NamedTuple):
    """The longest decision-based attack, and whether it finds more than the same one of half its length:
    for certain, where answers are random.
    """

    longest: CaseResult
    more: bool


def _gained_by_length(results: Sequence[CaseResult]) -> _ByLength | None:
    decisions = [result for result in results if result.made_by.declared.family == "decision"]
    pairs = [
        (fewer, more)
        for fewer in decisions
        for more in decisions
        if more.made_by.steps == 2 * (fewer.made_by.steps or 0)
        and differs_only_in(fewer.made_by, more.made_by, "steps")
    ]
    if not pairs:
        return None
    longest = max(pairs, key=lambda pair: pair[1].made_by.steps or 0)
    gained = difference_of(*longest, own=True)
    if gained is None:
        return None
    certain = gained.low > 0 or not longest[1].randomised
    return _ByLength(longest[1], round(gained.estimate, DIGITS) > WORTH and certain)


def _made_of_its_own(result: CaseResult, ensemble: CaseResult) -> bool:
    """True if it submits what this defence's own attacks found, rounded."""
    attack = result.made_by
    return isinstance(attack, Submitted) and attack.subject == ensemble.case.subject.defence
