"""Checks on the attacks: is a low success rate the defence's strength or the attack's failure?

    run_checks(rows, ensemble, gradients=None, unbounded_eps=1.0) -> list[Check]

Each check of one threat model is passed, failed or not run, with its figures, the attacks compared, and what
to run next. Comparisons are paired (`paired.py`); one fails when its 95% interval leaves out equality and the
difference is at least half a point, and counts as not run when the interval is too wide to have failed. Where
an attack leaves less than half a point, a stronger one has nothing to find, and the check is passed.

After Athalye et al. (arXiv 1802.00420, section 3) and Carlini et al. (arXiv 1902.06705), with draws.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from attacks.attack_name import AttackName
from attacks.catalogue import SEARCHES
from robustbench_coded.schema.controls import CLEAN, RANDOM_SIGN
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import WORTH, Check, compared, not_run
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    attacks_under,
    difference_of,
    differs_only_in,
    is_adaptive,
    is_black_box,
    lowest,
    name_of,
    usable_by,
)
from robustbench_coded.statistics.floor import exchanged_accuracy
from robustbench_coded.statistics.gradient_checks import gradients_agree, zero_gradients
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.next_steps import run_attacks

_SEARCHES = ("square-1000", "random-1000")
# They go less far than eps, or not everywhere: what they find, an attack on the whole ball should find, too.
PARTIAL = ("parts", "growing")


def run_checks(
    rows: Sequence[CaseResult],
    ensemble: CaseResult,
    gradients: Mapping[str, float] | None = None,
    unbounded_eps: float = 1.0,
) -> list[Check]:
    """Every check of one threat model, in a fixed order.

    Args:
        rows: all rows of the run, from `case_results`.
        ensemble: the `ensemble` row of the threat model.
        gradients: of the loss at clean inputs: ``zero_share`` of examples whose gradient is 0 everywhere,
            and mean ``cosine`` and share of equal ``sign`` between the gradients in two draws. Checks
            whose figures are missing are not run.
        unbounded_eps: the eps from which on any image can be reached; 1 for linf in pixel units.
    """
    measured = gradients or {}
    averaged = max((name_of(row).draws for row in usable_by(rows, ensemble)), default=1)
    return [
        randomness_known(rows, ensemble),
        transfer_or_black_box(rows, ensemble),
        random_search(rows, ensemble),
        falls_with_eps(rows, ensemble, unbounded_eps),
        twice_the_steps(rows, ensemble),
        twice_the_draws(rows, ensemble),
        zero_gradients(measured.get("zero_share")),
        gradients_agree(_guesses(ensemble), averaged, measured.get("cosine"), measured.get("sign")),
    ]


def randomness_known(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """The same algorithm and steps with the draw known leaves no more than with it unknown."""
    name = CheckName.RANDOMNESS_KNOWN
    if not ensemble.randomised:
        return Check(name, CheckOutcome.PASSED, "The defence is deterministic: there is no draw to know.")
    setting, threat = ensemble.key.setting, ensemble.key.threat
    unknown = attacks_under(rows, setting.under(threat.with_draw("unknown")))
    known = attacks_under(rows, setting.under(threat.with_draw("known")))
    pairs = [
        (aware, blind)
        for aware in known
        for blind in unknown
        if name_of(blind).estimator in ("fresh", "fixed", "eotauto")
        and differs_only_in(name_of(aware), name_of(blind), "estimator", "draws")
    ]
    # The worst of several pairs is picked: each is asked at its share of the error, as Holm does at first.
    measured = [
        (difference, aware, blind)
        for aware, blind in pairs
        if (difference := difference_of(aware, blind, TAIL / len(pairs))) is not None
    ]
    if not measured:
        return not_run(name, "No attack ran both with its draw known and unknown.", "pgd-10", "aware-pgd-10")
    difference, aware, blind = max(measured, key=lambda pair: pair[0].low)
    fault = "the optimiser fails where it knows most"
    return compared(name, aware, blind, difference, fault, _goes_on_from_transfer("aware"))


def transfer_or_black_box(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """Transfer and black-box attacks are not stronger than the strongest adaptive attack."""
    name = CheckName.TRANSFER_OR_BLACK_BOX
    usable = usable_by(rows, ensemble)
    adaptive = [row for row in usable if is_adaptive(name_of(row))]
    others = [row for row in usable if not is_adaptive(name_of(row))]
    fault = "the defence's gradients hide what an attack without them finds"
    estimator = "aware" if ensemble.key.threat.draw_known else "eot10"
    # Submitted inputs may show that the gradients mislead; a search of its own they do not replace.
    for found in (others, [row for row in others if not name_of(row).is_submitted]):
        check = _not_weaker(name, adaptive, found, _SEARCHES, fault, _goes_on_from_transfer(estimator))
        if check.outcome == CheckOutcome.FAILED:
            break
    return check


def random_search(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """Random search, or random signs alone, is weaker than the strongest attack with gradients."""
    name, fault, more = CheckName.RANDOM_SEARCH, "the gradients mislead", ("bpda-pgd-20", "spsa-2000")
    usable = usable_by(rows, ensemble)
    gradient = [row for row in usable if not is_black_box(name_of(row))]
    search = [row for row in usable if name_of(row).algorithm.lower() in SEARCHES]
    check = _not_weaker(name, gradient, search, _SEARCHES, fault, *more)
    signs = [row for row in rows if row.key == ensemble.key.of_attack(RANDOM_SIGN)]
    if check.outcome != CheckOutcome.NOT_RUN or not gradient or not signs:
        return check
    noise = _not_weaker(name, gradient, signs, _SEARCHES, fault, *_SEARCHES, *more)
    return noise if noise.outcome == CheckOutcome.FAILED else check


def falls_with_eps(rows: Sequence[CaseResult], ensemble: CaseResult, unbounded_eps: float) -> Check:
    """Accuracy falls with eps and reaches, where any image can be reached, what uninformative inputs would
    leave. Parts of the ball hold no more than the ball.

    That floor is the accuracy after the clean inputs have been exchanged at random among the examples: a
    constant prediction keeps its accuracy, whatever looks at its input falls to chance.
    """
    name = CheckName.FALLS_WITH_EPS
    if ensemble.clean is None:
        return not_run(name, "The floor is counted from clean outcomes, of which there are none.", "clean")
    floor, left = exchanged_accuracy(ensemble.clean), accuracy_of(ensemble)
    figures = {"floor": floor, "accuracy": left}
    if left <= max(floor, WORTH):
        finding = f"The ensemble leaves {left:.1%}, no more than the floor of {floor:.1%}."
        return Check(name, CheckOutcome.PASSED, finding, figures, (ensemble.strongest_attack,))
    usable = usable_by(rows, ensemble)
    parts = [row for row in usable if name_of(row).algorithm in PARTIAL]
    wholes = [row for row in usable if is_adaptive(name_of(row)) and row not in parts]
    if parts and wholes:
        part, whole = lowest(parts), lowest(wholes)
        difference = difference_of(whole, part)
        if difference is not None and difference.low > 0 and difference.estimate >= WORTH:
            fault = "an attack inside a part of the ball finds more than one in all of it"
            return compared(name, whole, part, difference, fault, _doubled_steps(part))
    curves = [_curve(rows, attack) for attack in usable]
    for curve in curves:
        for smaller, larger in pairwise(curve):
            difference = difference_of(larger, smaller)
            if difference is None:
                continue
            fault = f"more at eps {larger.key.eps:.4g} than at {smaller.key.eps:.4g}"
            check = compared(name, larger, smaller, difference, fault, _doubled_steps(larger))
            if check.outcome == CheckOutcome.FAILED:
                return check
    ends = [curve[-1] for curve in curves if curve[-1].key.eps >= unbounded_eps]
    if not ends:
        # What was found elsewhere was found at this eps: it cannot be submitted at another. Nor does a part
        # of the ball reach any image.
        made_here = [row for row in usable if not name_of(row).is_submitted and row not in parts]
        wanted = lowest(made_here).key.attack if made_here else "pgd-20"
        return not_run(name, f"No attack ran at eps {unbounded_eps:g}, which reaches any image.", wanted)
    end = lowest(ends)
    interval = end.interval()
    assert interval is not None  # attacks without outcomes are not usable
    figures |= {"unbounded": interval.estimate, "unbounded_low": interval.low}
    attack = end.key.attack
    finding = f"{attack} leaves {interval.estimate:.1%} at eps {end.key.eps:g}; the floor is {floor:.1%}"
    if interval.low > floor:
        more = ("transfer-pgd-20", *_SEARCHES)
        return Check(
            name,
            CheckOutcome.FAILED,
            f"{finding}: the attack stops short of it.",
            figures,
            (attack,),
            run_attacks(*more, how="at that eps"),
            more,
        )
    return Check(name, CheckOutcome.PASSED, f"{finding}.", figures, (attack,))


def twice_the_steps(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """The strongest attack with twice the steps finds no more."""
    attacks = [row for row in usable_by(rows, ensemble) if name_of(row).steps is not None]
    return _converged(CheckName.TWICE_THE_STEPS, attacks, "steps", _doubled_steps)


def twice_the_draws(rows: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """The strongest attack that averages fresh draws finds no more with twice as many."""
    name = CheckName.TWICE_THE_DRAWS
    if not _guesses(ensemble):
        return Check(
            name, CheckOutcome.PASSED, "Nothing is random to the attacker: there are no draws to average."
        )
    attacks = [row for row in usable_by(rows, ensemble) if _averages(name_of(row))]
    return _converged(name, attacks, "draws", _doubled_draws)


def _not_weaker(
    name: CheckName,
    attacks: Sequence[CaseResult],
    others: Sequence[CaseResult],
    missing: tuple[str, ...],
    fault: str,
    *run_next: str,
) -> Check:
    """Whether the strongest of ``attacks`` is as strong as the strongest of ``others``."""
    if not attacks:
        return not_run(name, "No attack with the defence's gradients ran.", "eot10-pgd-20")
    best = lowest(attacks)
    if accuracy_of(best) <= WORTH:
        return _nothing_left(name, best)
    difference = difference_of(best, lowest(others)) if others else None
    if difference is None:
        return not_run(name, f"There is nothing to compare {best.key.attack} with.", *missing)
    return compared(name, best, lowest(others), difference, fault, *run_next)


def _converged(
    name: CheckName, attacks: Sequence[CaseResult], of: str, doubled: Callable[[CaseResult], str]
) -> Check:
    """Compares the strongest of ``attacks`` with its like of twice, else of half, its steps or draws.

    Where it ran with no other number, the next one does that leaves at most half a point more: of attacks
    that have come to their end some other one is the strongest by chance each time.
    """
    if not attacks:
        return not_run(name, f"No attack has {of} to double.", "pgd-20" if of == "steps" else "eot10-pgd-20")
    best = lowest(attacks)
    if accuracy_of(best) <= WORTH:
        return _nothing_left(name, best)
    as_strong = (row for row in attacks if accuracy_of(row) - accuracy_of(best) <= WORTH)
    for one in sorted(as_strong, key=accuracy_of):
        for fewer, more in _of_twice(one, attacks, of):
            difference = difference_of(fewer, more)
            if difference is not None:
                return compared(name, fewer, more, difference, f"more {of} find more", doubled(more))
    return not_run(name, f"{best.key.attack} did not run with other {of}.", doubled(best))


def _of_twice(
    one: CaseResult, attacks: Sequence[CaseResult], of: str
) -> Iterator[tuple[CaseResult, CaseResult]]:
    """The attack and its like of twice its steps or draws, then of half of them; the longer one is second."""
    count = getattr(name_of(one), of)
    for factor in (2, 0.5):
        for other in attacks:
            alike = differs_only_in(name_of(other), name_of(one), of)
            if alike and getattr(name_of(other), of) == factor * count:
                yield (one, other) if factor == 2 else (other, one)


def _nothing_left(name: CheckName, best: CaseResult) -> Check:
    left, attack = accuracy_of(best), best.key.attack
    return Check(
        name,
        CheckOutcome.PASSED,
        f"{attack} leaves {left:.1%}: nothing is left to find.",
        {"accuracy": left},
        (attack,),
    )


def _guesses(ensemble: CaseResult) -> bool:
    """Whether the attacker does not know which draw will answer."""
    return ensemble.randomised and not ensemble.key.threat.draw_known


def _curve(rows: Sequence[CaseResult], attack: CaseResult) -> list[CaseResult]:
    """The same attack at every eps it ran at, from the clean inputs on."""
    same = attack.key._replace(eps=0.0, step_size=None)
    curve = [
        row for row in rows if row.cell is not None and row.key._replace(eps=0.0, step_size=None) == same
    ]
    clean = replace(attack, cell=attack.clean, key=attack.key._replace(attack=CLEAN, eps=0.0))
    return ([clean] if attack.clean is not None else []) + sorted(curve, key=lambda row: row.key.eps)


def _averages(name: AttackName) -> bool:
    return name.estimator == "fresh" and name.third_party is None and not is_black_box(name)


def _goes_on_from_transfer(estimator: str) -> str:
    return f"{estimator}-pgd-40+init=transfer-pgd-20"


def _doubled_steps(row: CaseResult) -> str:
    name = name_of(row)
    if name.steps is None:
        return "pgd-20"
    if name.third_party is not None:
        return name.text.replace(f"steps={name.steps}", f"steps={2 * name.steps}")
    return re.sub(rf"-{name.steps}(?=$|[@+])", f"-{2 * name.steps}", name.text, count=1)


def _doubled_draws(row: CaseResult) -> str:
    name = name_of(row)
    plain = name.text.removeprefix("relaxed-").removeprefix(f"eot{name.draws}-")
    return f"{'relaxed-' if name.relaxed else ''}eot{2 * name.draws}-{plain}"
