"""Scores the perturbed inputs of a case in random partitions of the examples into batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.evaluation.execution.attack_group import attack_group
from robustbench_coded.evaluation.execution.groups import groups_of
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.submitted import placed, submitted_group
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.unit_facts import seed_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import Batch
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.partitions import repartition
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.statistics.repartitioned import PARTITION


def score_partitions(context: WorkerContext, unit: Unit, tally: Tally) -> None:
    """One draw of the defence for each batch of each partition; outcomes bear the partition as their draw."""
    subject, seed = unit.row.subject, seed_of(context, unit)
    place, perturbed = perturbed_inputs(context, unit, tally)
    together = max(1, context.setup.group_images // subject.images)
    rule = context.setup.config.last_batch
    every = context.batches(subject, unit.replicate)
    batches = [every[index] for group in unit.groups for index in group]
    for number in unit.partitions:
        for group in _alike(repartition(batches, rule, seed, number, len(every)), together):
            clean, y = context.group(list(group))
            members = torch.tensor([[place[member] for member in batch.members] for batch in group])
            labels, margins = predictions(
                context.defence(subject),
                perturbed[members].to(clean),
                y,
                clean=None if unit.row.attack == CLEAN else clean,
                seed=seed,
                batches=[batch.index for batch in group],
                purpose="scoring",
                draws=[0],
                group_images=context.setup.group_images,
            )
            for position, batch in enumerate(group):
                slots = np.arange(batch.scored)
                tally.add(
                    PARTITION,
                    [number],
                    example=context.numbers[np.asarray(batch.members)[slots]],
                    batch=np.full(len(slots), batch.index),
                    slot=slots,
                    label=y[position].cpu().numpy()[slots],
                    prediction=labels[:, position, slots],
                    margin=margins[:, position, slots],
                )


def perturbed_inputs(context: WorkerContext, unit: Unit, tally: Tally) -> tuple[dict[int, int], Tensor]:
    """Every scored example's perturbed input, as it was attacked in its own batch, and where it stands."""
    sources = None if unit.submitted is None else unit.submitted.read()
    place: dict[int, int] = {}
    found = []
    for group in groups_of(context, unit):
        x, y = context.group(list(group.batches))
        if sources is None:  # a control: nothing was attacked
            adversarial = attack_group(context, unit, group, x, y, None, tally)
        elif unit.row.submission is None:
            adversarial = placed(group, sources[0], x)
        else:
            adversarial = submitted_group(context, unit, group, sources, x, y, tally)
        for batch, inputs in zip(group.batches, adversarial, strict=True):
            place |= {member: len(place) + i for i, member in enumerate(batch.members[: batch.scored])}
            found.append(inputs[: batch.scored].cpu())
    return place, torch.cat(found)


def _alike(batches: Sequence[Batch], together: int) -> Iterator[tuple[Batch, ...]]:
    """Batches of one size that go through the network together."""
    for size in dict.fromkeys(batch.k for batch in batches):
        alike = [batch for batch in batches if batch.k == size]
        for start in range(0, len(alike), together):
            yield tuple(alike[start : start + together])
