"""Scores the perturbed inputs of a case one by one, each as the only victim of a random batch."""

import numpy as np
import torch

from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.score_partitions import perturbed_inputs
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.unit_facts import seed_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.random_batches import random_batch
from robustbench_coded.statistics.repartitioned import PARTITION


def score_random_batches(context: WorkerContext, unit: Unit, tally: Tally) -> None:
    """One draw of the defence for each batch; outcomes bear the number of the batch as their draw."""
    subject, seed = unit.row.subject, seed_of(context, unit)
    place, perturbed = perturbed_inputs(context, unit, tally)
    together = max(1, context.setup.group_images // subject.images)
    every = context.batches(subject, unit.replicate)
    batches = [every[index] for group in unit.groups for index in group]
    made = [(number, *random_batch(batches, seed, number, len(every))) for number in unit.partitions]
    for start in range(0, len(made), together):
        group = made[start : start + together]
        clean, y = context.group([batch for _, batch, _ in group])
        x, at = clean.clone(), torch.arange(len(group))
        slots = torch.tensor([slot for _, _, slot in group])
        victims = [batch.members[slot] for _, batch, slot in group]
        x[at, slots] = perturbed[[place[victim] for victim in victims]].to(clean)
        labels, margins = predictions(
            context.defence(subject),
            x,
            y,
            clean=clean,
            seed=seed,
            batches=[batch.index for _, batch, _ in group],
            purpose="scoring",
            draws=[0],
            group_images=context.setup.group_images,
        )
        for position, (number, batch, slot) in enumerate(group):
            tally.add(
                PARTITION,
                [number],
                example=context.numbers[np.asarray([victims[position]])],
                batch=np.full(1, batch.index),
                slot=np.full(1, slot),
                label=y[position, slot : slot + 1].cpu().numpy(),
                prediction=labels[:, position, slot : slot + 1],
                margin=margins[:, position, slot : slot + 1],
            )
