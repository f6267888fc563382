"""The second objection to praise: an attack was not at its end.

    converged(rows, ensemble, stopped) -> [Check, Check]      twice the steps, twice the draws

The strongest attack with twice as many steps, or twice as many draws averaged, finds no more. Where it ran
with no other number, the next one decides that did and leaves at most half a point more: of attacks that have
come to their end some other one is the strongest by chance each time.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from attacks.attack_name import AttackName
from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.check import (
    WORTH,
    Check,
    NextStep,
    compared,
    not_run,
    nothing_left,
    passed,
)
from robustbench_coded.statistics.comparisons import (
    accuracy_of,
    differs_only_in,
    guesses_draw,
    is_black_box,
    lowest,
    name_of,
    usable_by,
)

Number = Literal["steps", "draws"]


def converged(rows: Sequence[CaseResult], ensemble: CaseResult, stopped: Collection[str] = ()) -> list[Check]:
    """Both checks of one threat model.

    Args:
        rows: all rows of the run.
        ensemble: the `ensemble` row of the threat model.
        stopped: attacks on this defence that a budget of images (`--budget`) ended before their length.
    """
    usable = usable_by(rows, ensemble)
    with_steps = [row for row in usable if name_of(row).steps is not None]
    averaging = [row for row in usable if _averages(name_of(row))]
    steps = _doubled(CheckName.TWICE_THE_STEPS, with_steps, "steps", doubled_steps, stopped)
    draws = CheckName.TWICE_THE_DRAWS
    if not guesses_draw(ensemble):
        return [steps, passed(draws, "Nothing is random to the attacker: there are no draws to average.")]
    return [steps, _doubled(draws, averaging, "draws", doubled_draws, stopped)]


def doubled_steps(row: CaseResult) -> str:
    """The name of an attack with twice the steps."""
    name = name_of(row)
    if name.steps is None:
        return "pgd-20"
    if name.third_party is not None:
        return name.text.replace(f"steps={name.steps}", f"steps={2 * name.steps}")
    return re.sub(rf"-{name.steps}(?=$|[@+])", f"-{2 * name.steps}", name.text, count=1)


def doubled_draws(row: CaseResult) -> str:
    """The name of an attack that averages twice the draws."""
    name = name_of(row)
    plain = name.text.removeprefix("relaxed-").removeprefix(f"eot{name.draws}-")
    return f"{'relaxed-' if name.relaxed else ''}eot{2 * name.draws}-{plain}"


def _doubled(
    name: CheckName,
    attacks: Sequence[CaseResult],
    number: Number,
    doubled: Callable[[CaseResult], str],
    stopped: Collection[str],
) -> Check:
    """Compares the strongest of ``attacks`` with its like of twice, else of half, its steps or draws."""
    if not attacks:
        wanted = "pgd-20" if number == "steps" else "eot10-pgd-20"
        return not_run(name, f"No attack has {number} to double.", wanted)
    best = lowest(attacks)
    if check := nothing_left(name, best):
        return check
    as_strong = (row for row in attacks if accuracy_of(row) - accuracy_of(best) <= WORTH)
    for attack in sorted(as_strong, key=accuracy_of):
        for fewer, more in _pairs(attack, attacks, number):
            check = compared(name, fewer, more, f"more {number} find more", doubled(more))
            if check is not None:
                return _unless_stopped(check, stopped)
    return not_run(name, f"{best.key.attack} did not run with other {number}.", doubled(best))


def _pairs(
    attack: CaseResult, attacks: Sequence[CaseResult], number: Number
) -> Iterator[tuple[CaseResult, CaseResult]]:
    """The attack and its like of twice its steps or draws, then of half of them; the longer one is second."""
    count = getattr(name_of(attack), number)
    for factor in (2, 0.5):
        for other in attacks:
            alike = differs_only_in(name_of(other), name_of(attack), number)
            if alike and getattr(name_of(other), number) == factor * count:
                yield (attack, other) if factor == 2 else (other, attack)


def _unless_stopped(check: Check, stopped: Collection[str]) -> Check:
    """The check; not run where a budget of images made the two lengths equal."""
    if not check.passed or not set(check.attacks) & set(stopped):
        return check
    finding = f"{' and '.join(check.attacks)} were stopped at one cost, short of what their names say."
    step = NextStep("give more images (--budget)")
    return replace(check, outcome=CheckOutcome.NOT_RUN, finding=finding, next_step=step)


def _averages(name: AttackName) -> bool:
    return name.estimator == "fresh" and name.third_party is None and not is_black_box(name)
