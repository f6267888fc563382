"""Where the difference between two attackers comes from: a 2 x 2 design with its interaction.

The two factors are whether the attacker knows the draw, and whether the attack starts from the base model's
perturbation; algorithm and steps are equal in all four cells. Each of the four simple effects is the paired
difference of two measured results: the accuracy of the attacker who lacks something less that of the one who
has it. The interaction is how much larger the effect of knowing the draw is for the plain start than for the
other, which is also how much larger the effect of the start is with the draw unknown. The effects add up only
where it is 0. They say what each step of the ladder takes away in this run, and nothing of causes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacks import presets
from attacks.naming import suited
from robustbench_coded.judge import paired
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import attacks_under, differs_only_in, name_of
from robustbench_coded.judge.ensemble import common
from robustbench_coded.judge.variance import between_batches, between_examples

STEPS = 10  # where no result of the run suggests another number


@dataclass(frozen=True)
class Design:
    """Four results of equal algorithm and steps, and what differs between them, as fractions of accuracy.

    Attributes:
        cells: the results: draw unknown and known with the plain start, the same started from the base
            model's perturbation.
        knowing: effect of knowing the draw, with the plain start and with the other.
        starting: effect of the start, with the draw unknown and known.
        interaction: `knowing` with the plain start less `knowing` with the other: estimate, low, high.
    """

    cells: tuple[CaseResult, CaseResult, CaseResult, CaseResult]
    knowing: tuple[paired.Difference, paired.Difference]
    starting: tuple[paired.Difference, paired.Difference]
    interaction: tuple[float, float, float]


def design(results: Sequence[CaseResult], ensemble: CaseResult) -> Design | None:
    """The design with most steps that the results of a run fill, for the subject and perturbation of
    ``ensemble``.
    """
    setting = ensemble.case.setting
    blind, aware = (
        attacks_under(results, setting.under(setting.threat.with_draw(draw))) for draw in ("unknown", "known")
    )
    found = []
    for plain in blind:
        if name_of(plain).estimator != "fresh" or name_of(plain).init is not None:
            continue
        started = [result for result in blind if _started(result) and _same_but_start(result, plain)]
        for other in started:
            knowing = [
                next(
                    (
                        result
                        for result in aware
                        if differs_only_in(name_of(result), name_of(of), "estimator")
                    ),
                    None,
                )
                for of in (plain, other)
            ]
            if knowing[0] is not None and knowing[1] is not None:
                found.append((plain, knowing[0], other, knowing[1]))
    if not found:
        return None
    cells = max(found, key=lambda four: name_of(four[0]).steps or 1)
    try:
        return _measured(cells)
    except paired.NotPaired:
        return None


def missing(results: Sequence[CaseResult], ensemble: CaseResult) -> tuple[str, ...]:
    """The fewest attacks that fill the design for the subject and perturbation of ``ensemble``, by name."""
    setting = ensemble.case.setting
    there = [
        result
        for draw in ("unknown", "known")
        for result in attacks_under(results, setting.under(setting.threat.with_draw(draw)))
    ]
    lengths = sorted(
        {name_of(result).steps or STEPS for result in there if name_of(result).traits.plain} | {STEPS}
    )
    names = {result.case.attack for result in there}
    norm = ensemble.case.perturbation.norm
    # Any algorithm and start fills the four cells, if all four have it.
    sets = [tuple(suited(cell.format(steps), norm) for cell in presets.CELLS) for steps in lengths]
    return min((tuple(name for name in four if name not in names) for four in sets), key=len)


def _started(result: CaseResult) -> bool:
    init = name_of(result).init
    return init is not None and init.estimator == "transfer"


def _same_but_start(result: CaseResult, plain: CaseResult) -> bool:
    options = tuple(option for option in name_of(result).options if option[0] != "init")
    return replace(name_of(result), text="", options=options) == replace(name_of(plain), text="")


def _measured(cells: tuple[CaseResult, CaseResult, CaseResult, CaseResult]) -> Design:
    plain, aware, started, both = _shared(cells)
    knowing = paired.paired_difference(plain, aware), paired.paired_difference(started, both)
    starting = paired.paired_difference(plain, started), paired.paired_difference(aware, both)
    tables = [
        result.cell.correct.astype(np.int8)
        for result in (plain, aware, started, both)
        if result.cell is not None
    ]
    assert plain.cell is not None
    one, other = tables[0] - tables[1], tables[2] - tables[3]
    spread = between_batches if plain.batch_dependent else between_examples
    r = paired.correlation_of(one, other, plain.cell.batch, spread)
    first, second = knowing
    estimate = first.estimate - second.estimate
    below = paired.joined(first.estimate - first.low, second.high - second.estimate, r)
    above = paired.joined(first.high - first.estimate, second.estimate - second.low, r)
    return Design(cells, knowing, starting, (estimate, estimate - below, estimate + above))


def _shared(results: Sequence[CaseResult]) -> list[CaseResult]:
    """The same results on the examples and draws that all of them have."""
    cells = [result.cell for result in results if result.cell is not None]
    example, draw = common([cell.example for cell in cells]), common([cell.draw for cell in cells])
    if len(cells) < len(results) or not len(example) or not len(draw):
        raise paired.NotPaired("they have no examples and draws in common")
    return [
        replace(result, cell=cell.at_examples(example).at_draws(draw)) for result, cell in zip(results, cells)
    ]
