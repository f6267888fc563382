"""Two objections to a positive verdict: another kind of attack finds more, or an attack was not at its end.

Where gradients lead an attack astray, something that knows less or goes less far does better: transfer from
the base model, a random search, an attacker who does not know the draw, a part of the ball.
After Athalye et al. (arXiv 1802.00420, section 3) and Carlini et al. (arXiv 1902.06705), with draws.

Attacks on the cross-entropy alone give no positive verdict. Its gradient vanishes where logits are large,
and on a robust network its attacks stop short: PGD and Auto-PGD on it leave 33.9% of an adversarially trained
ResNet-20 of ours, targeted Auto-PGD leaves 28.9%. More steps do not show that. The margin between two logits
has neither fault (arXiv 1608.04644, section V; arXiv 2003.01690, section 4).

An attack was at its end where the strongest one with twice as many steps, or twice as many draws averaged,
finds no more. Where it ran with no other number, two attacks decide that come within half a point of it, of
which one has twice as many as the other: of attacks that have come to their end some other one is the
strongest by chance each time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from msgspec import structs

from attacks import presets
from attacks.attack import AnyAttack, Attack, Submitted
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import (
    WORTH,
    Check,
    accuracy_of,
    compared,
    differs_only_in,
    guesses_draw,
    is_adaptive,
    is_black_box,
    left_more,
    lowest,
    not_run,
    on_another_loss,
    passed,
    passed_at_zero,
    usable_by,
)
from robustbench_coded.schema.words import RANDOM_SIGN, CheckName, CheckOutcome

Number = Literal["steps", "draws"]


def converged(results: Sequence[CaseResult], ensemble: CaseResult) -> list[Check]:
    """Both checks of one threat model.

    Args:
        results: all results of the run.
        ensemble: the `ensemble` result of the threat model.
    """
    usable = usable_by(results, ensemble)
    with_steps = [
        result
        for result in usable
        if result.made_by.steps is not None
        and not result.made_by.declared.counts_starts  # asked by `twice_the_restarts`
        and result.case.attack != presets.RECOMBINED  # ends by itself
    ]
    averaging = [
        result
        for result in usable
        if isinstance(attack := result.made_by, Attack)
        and attack.knows == "fresh"
        and not (is_black_box(attack) or attack.declared.counts_starts)
    ]
    steps = _at_its_end(CheckName.TWICE_THE_STEPS, with_steps, "steps", doubled_steps)
    draws = CheckName.TWICE_THE_DRAWS
    if not guesses_draw(ensemble):
        return [steps, passed(draws, "Nothing is random to the attacker: there are no draws to average.")]
    if not any(is_adaptive(result.made_by) for result in usable):
        return [steps, passed(draws, "No attack had its gradients, to average.")]
    return [steps, _at_its_end(draws, averaging, "draws", doubled_draws)]


def doubled_steps(result: CaseResult) -> str:
    """The name of an attack with twice the steps."""
    attack = result.made_by
    if attack.steps is None or isinstance(attack, Submitted):
        return presets.USUAL
    return str(attack.with_steps(2 * attack.steps))


def doubled_draws(result: CaseResult) -> str:
    """The name of an attack that averages twice the draws."""
    attack = result.made_by
    assert isinstance(attack, Attack)
    return str(structs.replace(attack, eot=2 * attack.draws))


def _at_its_end(
    name: CheckName,
    attacks: Sequence[CaseResult],
    number: Number,
    doubled: Callable[[CaseResult], str],
) -> Check:
    """Compares the strongest attack with itself at twice its steps or draws, else at half of them; where it
    ran with no such number, the next that comes within half a point of it; then two such attacks of its kind.
    """
    if not attacks:
        wanted = presets.USUAL if number == "steps" else presets.FOLLOWS_SHOWN
        return not_run(name, f"No attack has {number} to double.", wanted)
    best = lowest(attacks)
    if check := passed_at_zero(name, best):
        return check
    if number == "draws" and best.made_by.declared.chooses_draws:
        return passed(name, f"{best.case.attack}, the strongest, looks for the draws that fall together.")

    def count(result: CaseResult) -> int:
        amount: int = getattr(result.made_by, number)
        return amount

    field: Literal["steps", "eot"] = "steps" if number == "steps" else "eot"
    as_strong = [result for result in attacks if left_more(result, best) <= WORTH]
    for attack in sorted(as_strong, key=accuracy_of):
        for other in sorted(attacks, key=count, reverse=True):
            fewer, more = sorted((attack, other), key=count)
            if count(more) == 2 * count(fewer) and differs_only_in(more.made_by, fewer.made_by, field):
                check = compared(name, fewer, more, f"more {number} find more", doubled(more))
                if check is not None:
                    return check
    alike = [result for result in as_strong if result.made_by.declared.family == best.made_by.declared.family]
    fewer, more = min(alike, key=count), max(alike, key=count)
    if count(more) < 2 * count(fewer):
        return not_run(
            name, f"{best.case.attack} did not run with a different number of {number}.", doubled(best)
        )
    parts = [f"{result.case.attack} leaves {accuracy_of(result):.1%}" for result in (fewer, more)]
    finding = f"{parts[0]}, and {parts[1]} with more {number}."
    return passed(name, finding, fewer.case.attack, more.case.attack)


def other_attacks(results: Sequence[CaseResult], ensemble: CaseResult) -> list[Check]:
    """The checks of one threat model that compare kinds of attacks.

    Args:
        results: all results of the run, from `case_results`.
        ensemble: the `ensemble` result of the threat model.
    """
    mixed = twice_the_restarts(results, ensemble)
    return [transfer_or_black_box(results, ensemble), attacks_agree(results, ensemble, mixed), mixed]


def another_loss(results: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """True if an attack on a margin or on targets ran with the gradients of what is judged, to its end.

    Square and other searches follow a margin, too, and no gradient: their silence says little, so that they
    do not count here. What they find counts in the ensemble. Where relaxed gradients lead at least as far as
    those that the defence shows, the other loss must have followed them, too.
    """
    name = CheckName.ANOTHER_LOSS
    adaptive = [
        result for result in usable_by(results, ensemble) if result.complete and is_adaptive(result.made_by)
    ]
    if not adaptive:
        return passed(name, "No attack had its gradients, to follow on any loss.")
    relaxed = [result for result in adaptive if result.made_by.relaxed]
    shown = [result for result in adaptive if not result.made_by.relaxed]
    hidden = bool(relaxed) and (not shown or accuracy_of(lowest(relaxed)) <= accuracy_of(lowest(shown)))
    candidates = [result for result in (relaxed if hidden else adaptive) if on_another_loss(result.made_by)]
    if candidates:
        best, accuracy = lowest(candidates).case.attack, accuracy_of(lowest(candidates))
        return passed(name, f"{best} leaves {accuracy:.1%}.", best)
    finding = (
        f"No attack on a margin or on targets ran with its {'relaxed ' if hidden else ''}gradients, and they "
        "find what cross-entropy misses."
    )
    return not_run(name, finding, f"{'relaxed-' if hidden else ''}{presets.ANOTHER_LOSS}")


def transfer_or_black_box(results: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """No attack without the defence's gradients is stronger than the strongest with them: transfer, inputs
    submitted from elsewhere, a random search, random signs. A random search must have run.
    """
    name = CheckName.TRANSFER_OR_BLACK_BOX
    usable = usable_by(results, ensemble)
    adaptive = [result for result in usable if is_adaptive(result.made_by)]
    others = [result for result in usable if result not in adaptive]
    if not adaptive:
        # Where queries ran instead, there are no gradients to ask for.
        queries = [result for result in others if result.made_by.knows != "submitted"]
        wanted = [doubled_steps(lowest(queries)), *presets.LAST_RESORT] if queries else []
        followed = any(result.made_by.knows == "transfer" for result in others)
        finding = "No attack with the defence's gradients ran."
        blind = not_run(name, finding, *(wanted or [presets.FOLLOWS_SHOWN]))
        return blind if followed else replace(blind, brief="no gradient was followed")
    best = lowest(adaptive)
    if check := passed_at_zero(name, best):
        return check
    signs = [result for result in results if result.case == ensemble.case.of_attack(RANDOM_SIGN)]
    made_here = [result for result in others if result.made_by.knows != "submitted"]
    estimator = "aware" if ensemble.case.threat.draw_known else "eot10"
    check = None
    # Submitted inputs may show that the gradients mislead; a search of its own they do not replace.
    for rivals in ([*others, *signs], made_here):
        if rivals and not (check is not None and check.failed):
            rival = lowest(rivals)
            more = [presets.FROM_TRANSFER.format(estimator)] if ensemble.has_base else []
            if ensemble.has_base and (rival in signs or _is_search(rival)):
                more.append(presets.ROUNDABOUT)
            more += presets.SEARCHES if rival in signs else ()
            fault = "an attack without the defence's gradients is stronger"
            check = compared(name, best, rival, fault, *more)
    if check is None or not (check.failed or any(map(_is_search, others))):
        return not_run(name, f"No random search ran beside {best.case.attack}.", *presets.SEARCHES)
    return check


# So much less may all attacks together leave than the strongest. Networks whose attacks come to their end
# differ by at most 0.8 points; sine encodings whose attacks leave ten times the truth, by 2.0 to 4.6 (zoo,
# family "encodings").
DISAGREE = 0.015
# On honest defences with random answers, or broken by searches alone, at most 3.1; on a random ensemble with
# planted counterexamples, 16 (`benchmarks/soundness`).
FAR = 0.05


def attacks_agree(results: Sequence[CaseResult], ensemble: CaseResult, restarts: Check) -> Check:
    """The strongest attack leaves hardly more than all of them together.

    Where attacks fail on different images, each ends in some local optimum, and there may be better ones for
    all. Attacks on a batch-dependent defence are combined batch by batch, which hides it: there
    `twice_the_restarts` has to find it, for single victims, too. Random answers make attacks differ a little
    by chance, which nothing may end: there it is enough that mixed starts are at their end. Where the
    strongest attack follows no gradient, other checks ask what the gradient hides. Neither excuses a large
    difference.

    Args:
        restarts: `twice_the_restarts`.
    """
    name = CheckName.ATTACKS_AGREE
    own = [result for result in usable_by(results, ensemble) if result.made_by.knows != "submitted"]
    if not own:
        return passed(name, "No attack ran that could disagree.")
    best = lowest(own)
    accuracy, together = accuracy_of(best), accuracy_of(ensemble)
    finding = f"{best.case.attack} leaves {accuracy:.1%}, all attacks together {together:.1%}"
    finding += " in their own batches" * ensemble.in_random_batches
    check = passed(name, f"{finding}.", best.case.attack)
    more = left_more(best, ensemble)
    far = more > FAR
    if more <= DISAGREE or not (far or is_adaptive(best.made_by)):
        return check
    one_by_one = not (ensemble.randomised or ensemble.batch_dependent or ensemble.case.threat.one_victim)
    if restarts.passed and not (far or one_by_one):
        return replace(check, finding=f"{finding}; mixing more starts finds no more.")
    finding = f"{finding}: attacks end in different local optima, and there may be better ones."
    # Crossover costs forty times as much as the first mixed starts, which often end the disagreement.
    begun = restarts.attacks or not restarts.run_next
    recombined = (presets.RECOMBINED,) if one_by_one and begun and is_adaptive(best.made_by) else ()
    asked = (*restarts.run_next, *recombined)
    return replace(check, outcome=CheckOutcome.FAILED, finding=finding, run_next=asked)


def twice_the_restarts(results: Sequence[CaseResult], ensemble: CaseResult) -> Check:
    """Mixing the results of twice as many starts finds hardly more than the strongest of the other attacks.

    A rugged landscape shows itself there wherever it hides: behind random answers, and in batches. The first
    few starts are held against every other attack, and twice as many against them.
    """
    name = CheckName.TWICE_THE_RESTARTS
    own = [result for result in usable_by(results, ensemble) if result.made_by.knows != "submitted"]
    if ensemble.case.threat.inputs != "batch" or ensemble.case.perturbation.norm == "l0":
        return passed(name, "Asked where whole batches are attacked, and in norms that PGD knows.")
    if not any(is_adaptive(result.made_by) for result in own):
        return passed(name, "No attack had its gradients, to follow from other starts.")
    if check := passed_at_zero(name, lowest(own)):
        return check
    restarted = [result for result in own if result.made_by.declared.counts_starts and result.complete]
    if not restarted:
        return not_run(name, "No results of several starts were mixed.", presets.RESTARTED)
    most = max(restarted, key=lambda result: result.made_by.steps or 0)
    rivals = [result for result in own if result is not most]
    fault = "more starts find more, and still more may find still more"
    check = compared(name, lowest(rivals), most, fault, doubled_steps(most)) if rivals else None
    return check or not_run(name, f"{most.case.attack} has nothing to be compared with.", presets.USUAL)


def _is_search(result: CaseResult) -> bool:
    """True for a random search; of victims, whose queries would cost a batch each, also for one that was made
    on whole batches and submitted.
    """
    attack: AnyAttack | None = result.made_by
    if result.case.threat.one_victim and isinstance(attack, Submitted):
        attack = attack.attack
    return attack is not None and attack.declared.family == "search"
