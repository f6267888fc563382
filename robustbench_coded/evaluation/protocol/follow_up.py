"""Attacks that open checks ask for.

A check that fails is a reason to attack harder, not yet a finding about the defence. So the attacks that the
checks name next are run; what they leave then stands in the report.
"""

import math
from collections.abc import Iterator, Sequence

from msgspec import structs

from attacks.attack import AnyAttack, Attack, Package, Runnable, Submitted, read_attack
from attacks.presets import RECOMBINED
from robustbench_coded.evaluation.planning.cases import PlannedCase, planned_case
from robustbench_coded.evaluation.planning.comparisons import Comparison, comparison_of
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan, Results, mixes_starts
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.schema.case import Case, ThreatModel
from robustbench_coded.schema.words import BEFORE_POSITIVE, CONTROLS, DOUBLING, STANDARD, CheckName, Rung

# A follow-up that costs more than this many times the costliest attack that was planned on its defence is
# left to the user. Twice the steps and the draws of that attack are within it.
DEAREST = 4
# Attacks by labels alone are the last resort where gradients fail, and never as cheap as those. They may cost
# as much as everything planned on that defence together, or so many answers an example: enough for 1,600
# queries of five draws each.
MOST_DECISIONS = 3000
# A random search is compared at as many queries as the strongest attack with gradients made, and no fewer.
FEWEST_SEARCH_STEPS = 100
# Mixed starts are doubled while they find more; all together they may cost so many times what everything else
# does. At its cost alone, eight starts were affordable on a sine network that sixteen break.
MIXED = 2
# With a batch for each victim, attacks cost many times more: some checks ask them of whole batches alone.
_FOR_VICTIMS = (
    CheckName.TRANSFER_OR_BLACK_BOX,
    CheckName.TWICE_THE_STEPS,
    CheckName.TWICE_THE_DRAWS,
)


def follow_up(
    plan: EvaluationPlan, results: Results, comparisons: Sequence[Comparison]
) -> tuple[list[PlannedCase], list[str]]:
    """The cases that open checks of these comparisons ask for and that have not run, and sentences on those
    that are too dear.
    """
    known = {case.case for case in results.sizes}
    wanted: dict[Case, PlannedCase] = {}
    left_out: dict[str, None] = {}
    for check, case in _requests(plan, results, comparisons):
        where = f"{check.name}: {case.attack} on {case.subject.label} ({case.threat})"
        if case.case in known or case.case in wanted:
            continue
        if plan.images(case, plan.size) > _most(plan, results, case):
            left_out[f"{where} costs too much beside the attacks planned there; run it by its name."] = None
        else:
            wanted[case.case] = case
    return list(wanted.values()), list(left_out)


def _requests(
    plan: EvaluationPlan, results: Results, comparisons: Sequence[Comparison]
) -> Iterator[tuple[Check, PlannedCase]]:
    """Every attack of every open check."""
    for comparison in comparisons if results.tested else ():
        ran = [c for c in results.sizes if c.attack not in CONTROLS and not c.submission]
        for setting in plan.judged[comparison]:
            like = next((case for case in ran if case.case.setting == setting), None)
            verdict = results.verdicts.get(setting)
            if like is None or verdict is None or Rung.BEFORE_POSITIVE not in verdict.needs.rungs:
                continue
            for check in (check for check in verdict.checks if not check.passed):
                if comparison.inputs != "batch" and check.name not in _FOR_VICTIMS:
                    continue
                for case in follow_ups_of(check, like, list(results.sizes)):
                    asked = not _costliest(case) or not plan.ceilings.checks
                    if asked or _nearly_positive(plan, results, verdict, case):
                        yield check, case


def _costliest(case: PlannedCase) -> bool:
    """True for what runs where nothing else is open."""
    return case.attack == RECOMBINED or mixes_starts(case)


def _nearly_positive(plan: EvaluationPlan, results: Results, verdict: Verdict, case: PlannedCase) -> bool:
    """True if no other check asks for attacks, or the costliest have begun there. A base model that serves as
    a comparison is not recombined.
    """
    defended = any(comparison.subject.spec != STANDARD for comparison in plan.judged)
    if case.attack == RECOMBINED and defended and case.subject.spec == STANDARD:
        return False
    begun = any(_costliest(other) and other.case.setting == case.case.setting for other in results.sizes)
    return begun or BEFORE_POSITIVE.issuperset(check.name for check in verdict.checks if check.run_next)


def _most(plan: EvaluationPlan, results: Results, case: PlannedCase) -> float:
    """The gradient evaluations that a follow-up may cost, beside what was planned there."""
    if case.attack == RECOMBINED or not plan.ceilings.checks:  # what the verdict may cost bounds it
        return math.inf
    if mixes_starts(case):
        ran = [other for other in results.sizes if comparison_of(other) == comparison_of(case)]
        return sum(plan.images(other, plan.size) * (-1 if mixes_starts(other) else MIXED) for other in ran)
    own = (other for other in plan.cases if other.subject == case.subject and other in results.sizes)
    planned = [plan.images(other, plan.size) for other in own]
    most = DEAREST * max(planned)
    if case.made_by is None or case.made_by.declared.family != "decision":
        return most
    return max(most, sum(planned), MOST_DECISIONS * plan.size * case.subject.copies)


def follow_ups_of(check: Check, like: PlannedCase, cases: list[PlannedCase]) -> list[PlannedCase]:
    """Attacks of a check as cases: of the attacker who is judged or, if they name a known draw, of the one
    who knows it.

    Args:
        like: a case under the judged threat model.
        cases: what ran so far.
    """
    attacks: dict[str, PlannedCase] = {}
    for text in check.run_next:
        attack = None if text in CONTROLS else _suited(read_attack(text), check, like, cases)
        if attack is not None:
            case = _like(like, attack)
            attacks[case.attack] = case
    return list(attacks.values())


def unmatched(plan: EvaluationPlan, results: Results, comparison: Comparison) -> list[PlannedCase]:
    """Attacks that ran on a defence and should run on its base model, too, or the other way round."""
    known = {case.case for case in results.sizes}
    defences = [c for c in plan.about if c != comparison and plan.base(c) == comparison]
    names = [name for c in defences for v in results.of(plan, c) if v for name in v.missing_on_base]
    names += [name for v in results.of(plan, comparison) if v for name in v.missing_here]
    cases = []
    for like in [case for case in plan.attacks[comparison] if case in results.sizes][:1]:
        for attack in map(read_attack, dict.fromkeys(names)):
            if isinstance(attack, Attack) and not attack.uses_base and like.subject.has_gradient_for(attack):
                cases.append(_like(like, attack))
    return [case for case in cases if case.case not in known]


def _like(like: PlannedCase, attack: Runnable) -> PlannedCase:
    threat = ThreatModel(like.threat.inputs, "known" if attack.knows == "aware" else "unknown")
    return planned_case(like.subject, threat, attack, like.perturbation)


def _suited(attack: AnyAttack, check: Check, like: PlannedCase, cases: list[PlannedCase]) -> Runnable | None:
    """The attack as this subject can meet it; None where it can't."""
    subject, family = like.subject, attack.declared.family
    if isinstance(attack, Submitted):
        return None
    if family == "search" and check.name not in DOUBLING:
        attack = _as_long_as_gradients(attack, like, cases)
    if attack.differentiates and not subject.has_gradient_for(attack):
        if attack.relaxed or isinstance(attack, Package) or not subject.relaxable:
            return None
        attack = structs.replace(attack, relaxed=True)
    # Every query would be a batch of its own for each victim.
    by_queries = like.threat.inputs != "batch" and family in ("search", "decision")
    lacks_base = attack.uses_base and not subject.has_base
    lacks_draw = attack.knows == "aware" and not subject.randomised
    return None if by_queries or lacks_base or lacks_draw else attack


def _as_long_as_gradients(attack: Runnable, like: PlannedCase, cases: list[PlannedCase]) -> Attack:
    """A random search with as many forwards as the costliest attack with gradients had passes."""
    randomised = like.subject.randomised
    own = (case.made_by for case in cases if case.subject == like.subject)
    plain = (each for each in own if isinstance(each, Attack) and each.declared.plain)
    most = max((sum(each.queries(randomised=randomised)) for each in plain), default=FEWEST_SEARCH_STEPS)
    steps = max(FEWEST_SEARCH_STEPS, most // (attack.draws if randomised else 1))
    return Attack(attack.algorithm, steps)
