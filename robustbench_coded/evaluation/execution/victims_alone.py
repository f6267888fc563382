"""Victims under attacks that ask the base model alone, which answers input by input.

Each victim is attacked by itself, and those of many batches side by side: a batch for each would hold one
input that counts.
"""

import torch
from torch import Tensor

from attacks.naming import parse
from attacks.objective import copies
from robustbench_coded.evaluation.execution.attack_group import perturbed
from robustbench_coded.evaluation.execution.groups import Group, groups_of_victims
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import Batch
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
    for together in groups_of_victims(context, unit, context.setup.group_images):
        x, y = context.group(list(map(_alone, together.batches, together.victims)))
        found.append(tally.attacked(perturbed(context, unit, together, x, y, known, None))[:, 0])
    return list(torch.cat(found).split([len(group.victims) for group in groups]))


def _alone(batch: Batch, slot: int) -> Batch:
    """The batch without all but one of its inputs."""
    return Batch(batch.index, (batch.members[slot],), scored=1)


def placed(group: Group, found: Tensor, x: Tensor, *, free: bool) -> Tensor:
    """x [G, K, C, H, W] with the victims ``found`` [G, C, H, W].

    The best that ``free`` co-batched inputs can do for them is to be copies of them.
    """
    if free:
        return copies(found, group.k)
    adversarial = x.clone()
    adversarial[torch.arange(len(group.victims)), torch.tensor(group.victims)] = found
    return adversarial
