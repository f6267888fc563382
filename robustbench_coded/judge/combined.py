"""Rows made of several attacks under one threat model: `strongest` and `ensemble`.

Who may use what:

* `clean` and `random-sign` are candidates, too: an attacker can always leave the input alone or add noise.
  Clean outcomes serve every perturbation, those in victims' batches every attack on victims; random signs
  serve their own perturbation where whole batches are attacked.
* `*/known` also gets the perturbations of `*/unknown`, scored on the draws that its own attacks were made
  for.
* `strongest` is chosen on selection draws like the ensemble, so its own accuracy is unbiased; ties go to the
  attack planned first. In a deterministic defence, and where the draw is known, selecting and scoring
  outcomes are the same: nothing is random to the attacker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pandas as pd

from robustbench_coded.judge.anytime import RANDOM, random_batches
from robustbench_coded.judge.case_results import (
    CLOSE,
    CaseResult,
    Combination,
    Outcomes,
    inherited,
    measured_results,
)
from robustbench_coded.judge.ensemble import (
    PlayableAttack,
    aligned,
    ensemble,
    strongest,
    worst_case,
)
from robustbench_coded.judge.outcomes import DIGITS, Cell, cells
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import CaseRecord
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, RANDOM_SIGN, STRONGEST


def case_results(
    frame: pd.DataFrame, planned: Iterable[CaseRecord], faulty: Mapping[Case, int] = MappingProxyType({})
) -> list[CaseResult]:
    """Results in the order of the plan, those of one setting together and its combined rows after them.

    Args:
        frame: outcomes, with columns as in docs/run-folder.md.
        planned: the attacks and controls of the plan.
        faulty: results of each attack that were no perturbed inputs, where there were any.
    """
    in_random = random_batches(frame)
    outcomes = Outcomes(cells(frame[frame["purpose"] != RANDOM] if in_random else frame), in_random)
    groups: dict[Case, list[CaseResult]] = {}
    for result in measured_results(outcomes, planned, faulty):
        groups.setdefault(result.case.setting, []).append(result)
    everything = [result for results in groups.values() for result in results]
    return [
        result
        for results in groups.values()
        for result in [*results, *_combined(results, everything, outcomes)]
    ]


def _combined(
    results: Sequence[CaseResult], everything: Sequence[CaseResult], outcomes: Outcomes
) -> list[CaseResult]:
    """The results made from several attacks under one threat model; none before there are outcomes.

    Args:
        results: of the setting. everything: of all settings.
    """
    attacked = [result for result in results if result.case.attack not in CONTROLS]
    if not attacked:
        return []
    model = attacked[0]
    weaker = inherited(model.case, everything)
    attacks = [*attacked, *weaker]
    usable = [*attacks, *_controls(model.case, everything)]
    known = model.case.threat.draw_known
    playable = (_playable(result, outcomes, known) for result in usable)
    candidates = aligned([candidate for candidate in playable if candidate is not None])
    if not candidates or not len(candidates[0].scoring.example) or not len(candidates[0].scoring.draw):
        return []
    best = strongest(candidates)
    # What may stop along the way is judged on the examples that all of its attacks have met.
    examples = [result.examples_planned for result in attacks]
    planned = min(examples) if any(result.looks for result in attacks) else max(examples)
    combination = _combination(candidates, best, outcomes, random=model.randomised and not known)
    made = [
        replace(
            model,
            case=model.case.of_attack(name),
            cell=cell,
            clean=outcomes.clean_like(cell, model.case),
            examples_planned=planned,
            complete=all(result.complete for result in attacks) and len(cell.example) >= planned,
            sources=sources,
            looks=max(result.looks for result in usable),
            # Clean inputs are scored in random batches for their own accuracy: as an attack they would only
            # cost error.
            random_batches=outcomes.in_random(
                key for key in sources if name == STRONGEST or (name == ENSEMBLE and key.attack != CLEAN)
            ),
            faulty=sum(result.faulty for result in attacks) if name == ENSEMBLE else 0,
            combination=combination._replace(lower=_lower(candidates, cell)),
        )
        for name, cell, sources in _cells(model, candidates, best)
    ]
    if all(result.complete for result in made) or all(result.complete for result in everything):
        return made
    whole = [result for result in everything if result.complete]
    recombined = _combined([result for result in results if result.complete], whole, outcomes)
    of_complete = next((r for r in recombined if r.case.attack == ENSEMBLE and r.complete), None)
    return [
        replace(result, combination=result.combination._replace(of_complete=of_complete))
        if result.case.attack == ENSEMBLE
        else result
        for result in made
    ]


def _cells(
    model: CaseResult, candidates: Sequence[PlayableAttack], best: int
) -> list[tuple[str, Cell, tuple[Case, ...]]]:
    """Name, outcomes and sources of each row."""
    by_batch = model.batch_dependent and not model.case.threat.one_victim
    sources = tuple(candidate.case for candidate in candidates)
    first = (STRONGEST, candidates[best].scoring, (candidates[best].case,))
    if not model.randomised or model.case.threat.draw_known:
        return [first, (ENSEMBLE, worst_case(candidates, by_batch=by_batch), sources)]
    return [first, (ENSEMBLE, ensemble(candidates, best, by_batch=by_batch), sources)]


def _combination(
    candidates: Sequence[PlayableAttack], best: int, outcomes: Outcomes, *, random: bool
) -> Combination:
    """How the rows were made; ``random``: whether something is random to the attacker."""
    lowest = candidates[best].selection.correct.mean()
    more = {c.case: c.selection.correct.mean() - lowest for c in candidates if c.case.attack not in CONTROLS}
    near = [case for case, share in more.items() if round(share, DIGITS) <= CLOSE]
    # Where they leave clearly more in random batches than in their own, others come as near to them there.
    apart = min((one.accuracy for one in outcomes.in_random(near)), default=0.0) - lowest
    rivals = [case for case, share in more.items() if round(share - apart * (apart > CLOSE), DIGITS) <= CLOSE]
    return Combination(
        candidates[best].case.attack,
        len(candidates[0].selection.draw) if random else 0,
        tuple(near),
        tuple(case for case in rivals if case not in outcomes.random),
    )


def _lower(candidates: Sequence[PlayableAttack], cell: Cell) -> str:
    """The candidate that leaves least as attacked, if that is less than ``cell`` does; else ''."""
    lowest = min(candidates, key=lambda candidate: candidate.scoring.correct.mean())
    return lowest.case.attack if lowest.scoring.correct.mean() < cell.correct.mean() else ""


def _playable(result: CaseResult, outcomes: Outcomes, known: bool) -> PlayableAttack | None:
    """The result as an attack to choose; None while its outcomes to choose by are missing."""
    if result.cell is None:
        return None
    seen = known or not result.randomised
    selection = result.cell if seen else outcomes.of(result.case, "selection")
    return None if selection is None else PlayableAttack(result.case, selection, result.cell)


def _controls(key: Case, everything: Sequence[CaseResult]) -> list[CaseResult]:
    """Random signs and the clean inputs, as measured under this threat, else where they mean the same."""
    served = []
    usable = [result for result in everything if result.case.subject == key.subject]
    for attack in (RANDOM_SIGN, CLEAN):
        results = [result for result in usable if result.case.attack == attack]
        if attack == RANDOM_SIGN:
            results = [result for result in results if result.case.perturbation == key.perturbation]
        own = [result for result in results if result.case.threat.inputs == key.threat.inputs]
        # A victim that is left alone sits in a clean batch; one with random signs has clean co-batched
        # inputs, and one that is not attacked has no signs at all.
        same = [result for result in results if not result.case.threat.one_victim]
        if attack == RANDOM_SIGN and key.threat.inputs != "batch":
            same = []
        served += (own or same)[:1]
    return served
