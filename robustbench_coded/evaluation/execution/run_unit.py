"""Attacks and scores one unit, whatever its threat model."""

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.evaluation.execution.attack_group import attack_group
from robustbench_coded.evaluation.execution.groups import Group, groups_of
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.score_random_batches import score_random_batches
from robustbench_coded.evaluation.execution.submitted import submitted_group
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.unit_facts import draws_to_score, seed_of, separate_attacks
from robustbench_coded.evaluation.execution.victims_alone import asks_base_alone, attacked_alone, placed
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.runs.pictures import lowest
from robustbench_coded.schema.controls import CLEAN


def run_unit(context: WorkerContext, unit: Unit, tally: Tally) -> None:
    """Attacks and scores the groups of a unit; where the draw is known, anew for each scored draw."""
    if unit.random_batches:
        score_random_batches(context, unit, tally)
        return
    sources = None if unit.submitted is None else unit.submitted.read()
    known = range(separate_attacks(context)) if unit.row.threat.draw_known else [None]
    groups = list(groups_of(context, unit))
    alone = sources is None and asks_base_alone(unit)
    victims = {draw: attacked_alone(context, unit, groups, draw, tally) for draw in known} if alone else {}
    for place, group in enumerate(groups):
        x, y = context.group(list(group.batches))
        for draw in known:
            if sources is not None:
                adversarial = submitted_group(context, unit, group, sources, x, y, tally)
            elif victims:
                adversarial = placed(group, victims[draw][place], x, free=unit.row.threat.free)
            else:
                adversarial = attack_group(context, unit, group, x, y, draw, tally)
            if tally.adversarials is not None:
                tally.adversarials.add(group.indices, group.stored_victims, draw, x, adversarial)
            if unit.row.threat.whole_batch and draw is None and unit.row.attack != CLEAN:
                for batch, inputs in zip(group.batches, adversarial, strict=True):
                    tally.perturbed.add(batch.members[: batch.scored], inputs[: batch.scored])
            if not unit.scored:
                continue
            scored = draws_to_score(context, unit.row) if draw is None else [("scoring", [draw])]
            for purpose, draws in scored:
                margins = _score(context, unit, group, x, adversarial, y, purpose, draws, tally)
            _picture(tally, group, margins, x, adversarial, context.numbers)


def _score(
    context: WorkerContext,
    unit: Unit,
    group: Group,
    clean: Tensor,
    x: Tensor,
    y: Tensor,
    purpose: str,
    draws: list[int],
    tally: Tally,
) -> np.ndarray:
    """Scores one group; returns the margins [draws, G, K]."""
    labels, margins = predictions(
        context.defence(unit.row.subject),
        x,
        y,
        clean=None if unit.row.attack == CLEAN else clean,
        seed=seed_of(context, unit),
        batches=group.indices,
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=context.setup.group_images,
    )
    for position, (batch, slots) in enumerate(zip(group.batches, group.scored, strict=True)):
        tally.add(
            purpose,
            draws,
            example=context.numbers[np.asarray(batch.members)[slots]],
            batch=np.full(len(slots), batch.index),
            slot=slots,
            label=y[position].cpu().numpy()[slots],
            prediction=labels[:, position, slots],
            margin=margins[:, position, slots],
        )
    return margins


def _picture(
    tally: Tally, group: Group, margins: np.ndarray, x: Tensor, adversarial: Tensor, numbers: np.ndarray
) -> None:
    """Offers pictures of the inputs with the lowest margins [draws, G, K]; filled-up slots are not scored."""
    if tally.pictures is None:
        return
    margin = margins.mean(axis=0)
    for position, batch in enumerate(group.batches):
        slots = lowest(margin[position, : batch.scored])
        tally.pictures.add(
            numbers[np.asarray(batch.members)[slots]],
            margin[position, slots],
            *(images[position, torch.from_numpy(slots)].cpu().numpy() for images in (x, adversarial)),
        )
