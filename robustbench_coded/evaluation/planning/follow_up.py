"""Attacks that the checks ask for: run by themselves where a check has nothing to compare, or has failed.

A check that fails is a reason to attack harder, not yet a finding about the defence. So the attacks that the
checks name next are run, at most ``ROUNDS`` times over; what they leave then stands in the report. Where the
attacks so far already leave no more than the base model keeps, or next to nothing, stronger ones have no
question to answer; unless an attack without gradients was the stronger one, which puts the accuracy itself in
question.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from attacks.attack_name import AttackName
from attacks.naming import parse
from attacks.presets import RECOMBINED
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.plan import UnitMaker, queries_of, step_size_of, stopped
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.verdict import NEXT_TO_NOTHING
from robustbench_coded.schema.case import Case, ThreatModel
from robustbench_coded.schema.words import (
    BEFORE_PRAISE,
    CONTROLS,
    DOUBLING,
    STANDARD,
    CheckName,
    CheckOutcome,
)

ROUNDS = 2
# A follow-up that costs more than this many times the costliest attack that was planned on its defence is
# left to the user. Twice the steps and the draws of that attack are within it.
DEAREST = 4
# Attacks by labels alone are the last resort where gradients fail, and never as cheap as those. They may cost
# as much as everything planned on that defence together, or so many images an example where a defence answers
# inputs one by one: enough for 1,600 queries of five draws each.
MOST_DECISIONS = 3000
# A random search is compared at as many queries as the strongest attack with gradients made, and no fewer.
FEWEST_SEARCH_STEPS = 100


# With a batch for each victim, attacks cost many times more: what is asked for batches is not asked again.
_FOR_VICTIMS = (CheckName.TRANSFER_OR_BLACK_BOX, CheckName.FALLS_WITH_EPS)


def follow_up(
    judgements: Iterable[Judgement],
    cases: Sequence[PlannedCase],
    maker: UnitMaker,
    planned: Sequence[PlannedCase],
) -> tuple[list[PlannedCase], list[str]]:
    """The cases to run next in a run folder, and sentences on those that are too dear.

    Args:
        judgements: of the outcomes of ``cases``.
        cases: what ran so far.
        maker: cuts cases into units; here it tells what they cost.
        planned: those of them that were planned before anything ran: what a follow-up may cost.
    """
    known = {case.case: case for case in cases}
    costs: dict[ProbedSubject, list[int]] = defaultdict(
        list
    )  # images forwarded and differentiated by each case
    for case in planned:
        costs[case.subject].append(maker.images(case))

    def too_dear(case: PlannedCase) -> bool:
        if _restarts(case):  # all of them may cost as much as everything else there
            ran = [(other, maker.images(other)) for other in cases if other.subject == case.subject]
            rest = sum(images for other, images in ran if not _restarts(other))
            return maker.images(case) + sum(images for _, images in ran) - rest > rest
        return maker.images(case) > _most(case, costs[case.subject], maker)

    wanted: dict[Case, PlannedCase] = {}
    left_out: dict[str, None] = {}
    judgements = list(judgements)
    defended = any(judgement.case.subject.defence != STANDARD for judgement in judgements)
    for judgement in judgements:
        like = _row_like(judgement, cases)
        if like is None:
            continue
        for check in judgement.checks:
            if check.outcome == CheckOutcome.PASSED or not (
                judgement.verdict.could_fall or _misled(check, judgement)
            ):
                continue
            if like.threat.inputs != "batch" and check.name not in _FOR_VICTIMS:
                continue
            for case in _asked_for(check.run_next, check.name, judgement, like, cases):
                if case.case in known or case.case in wanted:
                    continue
                if _before_praise(case) and not _nearly_praised(case, judgement, cases, defended):
                    continue
                if check.name in DOUBLING and stopped(maker.conditions, case):
                    left_out[
                        f"{check.name}: {case.attack} on {case.subject.label} ({case.threat}) would be "
                        "stopped by --budget before it is twice as long; give more images to settle that "
                        "check."
                    ] = None
                    continue
                if too_dear(case):
                    left_out[
                        f"{check.name}: {case.attack} on {case.subject.label} ({case.threat}) costs too much "
                        "beside the attacks planned there; run it by its name."
                    ] = None
                    continue
                wanted[case.case] = case
    return list(wanted.values()), list(left_out)


def _restarts(case: PlannedCase) -> bool:
    """Whether it mixes the results of several starts."""
    own = case.attack not in CONTROLS and not case.submission
    return own and parse(case.attack).traits.restarts


def _before_praise(case: PlannedCase) -> bool:
    """Whether it is one of the dearest attacks, which run where nothing else is open."""
    return case.attack == RECOMBINED or _restarts(case)


def _nearly_praised(
    case: PlannedCase, judgement: Judgement, cases: Sequence[PlannedCase], defended: bool
) -> bool:
    """Whether nothing else is open, or it has begun there. A base model that serves as a comparison is not
    recombined.
    """
    if case.attack == RECOMBINED and defended and judgement.case.subject.defence == STANDARD:
        return False
    setting = judgement.case.setting
    begun = any(_before_praise(other) for other in cases if other.case.setting == setting)
    unpassed = (check.name for check in judgement.checks if check.outcome != CheckOutcome.PASSED)
    return begun or BEFORE_PRAISE.issuperset(unpassed)


def _misled(check: Check, judgement: Judgement) -> bool:
    """Whether an attack without gradients found what those with gradients did not: there may be much more."""
    verdict = judgement.verdict
    found = check.name == CheckName.TRANSFER_OR_BLACK_BOX and check.failed
    return found and verdict.accuracy is not None and verdict.accuracy.low > NEXT_TO_NOTHING


def _most(case: PlannedCase, planned: Sequence[int], maker: UnitMaker) -> float:
    """Images that a follow-up may cost."""
    if case.attack == RECOMBINED:  # what the verdict may cost bounds it
        return math.inf
    dearest = DEAREST * max(planned)
    if parse(case.attack).traits.family != "decision":
        return dearest
    alone = 0 if case.subject.batch_dependent else MOST_DECISIONS * maker.sizes[-1]
    return max(dearest, sum(planned), alone)


def _row_like(judgement: Judgement, cases: Sequence[PlannedCase]) -> PlannedCase | None:
    """A planned attack under the judged threat model, if there is one."""
    setting = judgement.case.setting
    attacks = (case for case in cases if case.attack not in CONTROLS and case.submission is None)
    return next((case for case in attacks if case.case.setting == setting), None)


def _asked_for(
    attacks: Sequence[str],
    check: str,
    judgement: Judgement,
    like: PlannedCase,
    cases: Sequence[PlannedCase],
) -> list[PlannedCase]:
    """Attacks of a check as cases: of the attacker who is judged or, if they name a known draw, of the one
    who knows it.
    """
    found: list[PlannedCase] = []
    for text in attacks:
        if text in CONTROLS:
            continue
        name = parse(text)
        if name.traits.family == "search" and check not in DOUBLING:
            name = _as_long_as_gradients(name, like, cases)
        if name.uses_base and not like.subject.has_base:
            continue
        followed = _with_gradient(name, like.subject)
        if followed is None or followed.text in (case.attack for case in found):
            continue
        name = followed
        if like.threat.inputs != "batch" and name.traits.family in ("search", "decision"):
            continue  # every query would be a batch of its own for each victim
        randomness = "known" if name.estimator == "aware" else "unknown"
        if randomness == "known" and not like.subject.randomised:
            continue
        eps = judgement.unbounded_eps if check == CheckName.FALLS_WITH_EPS else like.perturbation.eps
        threat = ThreatModel(like.threat.inputs, randomness)
        found.append(
            replace(
                planned_case(
                    like.subject,
                    threat,
                    name.text,
                    like.case.at_eps(eps).perturbation,
                    step_size_of(name, eps),
                ),
                for_check=eps != like.perturbation.eps,
            )
        )
    return found


def _with_gradient(name: AttackName, subject: ProbedSubject) -> AttackName | None:
    """The attack itself, or by relaxed gradients where there are no others; None where there are none."""
    if not name.differentiates or subject.has_gradient_for(name):
        return name
    if name.relaxed or name.third_party is not None or not subject.relaxable:
        return None
    return parse(f"relaxed-{name.text}")


def _as_long_as_gradients(name: AttackName, like: PlannedCase, cases: Sequence[PlannedCase]) -> AttackName:
    """A random search with as many forwards as the costliest attack with gradients had passes."""
    randomised = like.subject.randomised
    most = max(
        (
            sum(queries_of(parse(case.attack), randomised=randomised))
            for case in cases
            if case.subject == like.subject
            and case.attack not in CONTROLS
            and parse(case.attack).traits.plain
        ),
        default=FEWEST_SEARCH_STEPS,
    )
    steps = max(FEWEST_SEARCH_STEPS, most // (name.draws if randomised else 1))
    return parse(f"{name.algorithm}-{steps}")
