"""Scores the perturbed inputs of a case in random batches, one draw of the defence for each."""

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
from robustbench_coded.evaluation.planning.random_batches import random_batch, victims_batch
from robustbench_coded.schema.controls import CLEAN

RANDOM = "random"  # the purpose of these outcomes; their draw is the number of the batch


def score_random_batches(context: WorkerContext, unit: Unit, tally: Tally) -> None:
    """Outcomes of the scored slots: of victims one in each batch, else all."""
    subject, seed = unit.row.subject, seed_of(context, unit)
    images, perturbed = perturbed_inputs(context, unit, tally)
    place = {member: position for position, member in enumerate(images)}
    every = len(context.batches(subject, unit.replicate))
    made: list[tuple[int, Batch, np.ndarray]] = []
    for number in unit.random_batches:
        if unit.row.threat.one_victim:
            batch, slot = victims_batch(images, subject.k, seed, number, every)
            made.append((number, batch, np.asarray([slot])))
        else:
            batch = random_batch(images, subject.k, seed, number, every)
            made.append((number, batch, np.arange(batch.scored)))
    together = max(1, context.setup.group_images // subject.images)
    for start in range(0, len(made), together):
        group = made[start : start + together]
        clean, y = context.group([batch for _, batch, _ in group])
        x = clean.clone()
        for position, (_, batch, slots) in enumerate(group):
            attacked = slots if unit.row.threat.one_victim else np.arange(batch.k)
            x[position, attacked] = perturbed[[place[batch.members[slot]] for slot in attacked]].to(clean)
        labels, margins = predictions(
            context.defence(subject),
            x,
            y,
            clean=None if unit.row.attack == CLEAN else clean,
            seed=seed,
            batches=[batch.index for _, batch, _ in group],
            purpose="scoring",
            draws=[0],
            group_images=context.setup.group_images,
        )
        for position, (number, batch, slots) in enumerate(group):
            tally.add(
                RANDOM,
                [number],
                example=context.numbers[np.asarray(batch.members)[slots]],
                batch=np.full(len(slots), batch.index),
                slot=slots,
                label=y[position].cpu().numpy()[slots],
                prediction=labels[:, position, slots],
                margin=margins[:, position, slots],
            )


def perturbed_inputs(context: WorkerContext, unit: Unit, tally: Tally) -> tuple[list[int], Tensor]:
    """The scored examples, and for each its perturbed input, as it was attacked in its own batch."""
    sources = None if unit.submitted is None else unit.submitted.read()
    images: list[int] = []
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
            images += batch.members[: batch.scored]
            found.append(inputs[: batch.scored].cpu())
    return images, torch.cat(found)
