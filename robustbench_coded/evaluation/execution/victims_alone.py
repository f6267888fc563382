"""Victims under attacks that ask the base model alone, which answers input by input.

Each victim is attacked by itself, and those of many batches side by side: a batch for each would hold one
input that counts.
"""

import torch
from torch import Tensor

from attacks.naming import parse
from attacks.roles import copies
from robustbench_coded.evaluation.execution.attack_group import perturbed
from robustbench_coded.evaluation.execution.groups import Group
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.schema.controls import CONTROLS


def asks_base_alone(unit: Unit) -> bool:
    """Whether the unit attacks victims through the base model."""
    attack = unit.row.attack
    return unit.row.threat.one_victim and attack not in CONTROLS and parse(attack).estimator == "transfer"


def attacked_alone(
    context: WorkerContext, unit: Unit, groups: list[Group], known: int | None, tally: Tally
) -> list[Tensor]:
    """The groups' victims after the attack, ``[G, C, H, W]`` for each group.

    Args:
        known: the scoring draw that the attacker knows, if any.
        tally: gets what the attack cost.
    """
    found: list[Tensor] = []
    for several in _side_by_side(groups, context.setup.group_images):
        victims = [_victims(context, group) for group in several]
        x, y = (torch.cat(parts)[:, None] for parts in zip(*victims, strict=True))
        result = tally.attacked(perturbed(context, unit, _as_one(several), x, y, known, None))
        found += result[:, 0].split([len(group.victims) for group in several])
    return found


def placed(group: Group, found: Tensor, x: Tensor, *, free: bool) -> Tensor:
    """x [G, K, C, H, W] with the victims ``found`` [G, C, H, W].

    The best that ``free`` co-batched inputs can do for them is to be copies of them.
    """
    if free:
        return copies(found, group.k)
    adversarial = x.clone()
    adversarial[torch.arange(len(group.victims)), torch.tensor(group.victims)] = found
    return adversarial


def _side_by_side(groups: list[Group], most: int) -> list[list[Group]]:
    """Groups whose batches are equally large, with at most so many victims together."""
    pieces: list[list[Group]] = []
    for group in groups:
        last = pieces[-1] if pieces else []
        victims = sum(len(other.victims) for other in last)
        if last and last[0].k == group.k and victims + len(group.victims) <= most:
            last.append(group)
        else:
            pieces.append([group])
    return pieces


def _victims(context: WorkerContext, group: Group) -> tuple[Tensor, Tensor]:
    """Images [G, C, H, W] and labels [G] of a group's victims."""
    x, y = context.group(list(group.batches))
    place = torch.arange(len(group.victims)), torch.tensor(group.victims)
    return x[place], y[place]


def _as_one(groups: list[Group]) -> Group:
    return Group(
        tuple(batch for group in groups for batch in group.batches),
        tuple(slots for group in groups for slots in group.scored),
        tuple(victim for group in groups for victim in group.victims),
    )
