"""One unit of work: attack its batches, score what came out, and return outcome rows to the engine."""

import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attacks.accelerator import module_of
from attacks.naming import parse
from robustbench_coded.evaluation.execution.attack_group import (
    Group,
    UnitRun,
    attack_group,
    attacked_alone,
    draws_to_score,
    groups_of,
    score_group,
    with_victims,
)
from robustbench_coded.evaluation.execution.random_batches import score_random_batches
from robustbench_coded.evaluation.execution.score import InvalidAnswer, Tally
from robustbench_coded.evaluation.execution.submitted import submitted_group
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.runs.adversarials import Adversarials
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.runs.pictures import Pictures, lowest
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CLEAN, CONTROLS


@dataclass(frozen=True)
class UnitResult:
    """A finished unit.

    Attributes:
        rows: its outcome rows, in the columns of `runs.outcomes.SCHEMA`.
        metadata: stored with the outcomes and equal in every run: image counts and notes of the attack.
        timing: seconds and peak memory, which differ between runs.
        adversarials: the perturbed inputs, if asked for.
        pictures: the content of a file of `runs.pictures`, None without one.
    """

    unit: Unit
    rows: pa.Table
    metadata: dict[str, Any]
    timing: dict[str, Any]
    adversarials: dict[str, Tensor] = field(default_factory=dict)
    pictures: bytes | None = None


@dataclass(frozen=True)
class UnitFailure:
    """A unit without outcomes, and why. The report counts it as a failure, never as robust examples.

    Attributes:
        error: one line.
        attempts: how often it was tried.
        details: the end of the traceback, where there was one.
        process_unusable: whether the process that tried it can't be used any more, as after a CUDA fault.
    """

    unit: Unit
    error: str
    attempts: int
    details: str = ""
    process_unusable: bool = False


def run_unit(context: WorkerContext, unit: Unit, tally: Tally) -> None:
    """Attacks and scores the groups of a unit; where the draw is known, anew for each scored draw."""
    if unit.random_batches:
        score_random_batches(UnitRun(context, unit, tally))
        return
    run = UnitRun(context, unit, tally)
    sources = None if unit.submitted is None else unit.submitted.read()
    row, config = unit.row, context.setup.config
    # Under known randomness scoring draws are attacked one by one.
    known = range(min(config.aware_attacks, config.draws)) if row.threat.draw_known else [None]
    groups = list(groups_of(run))
    # Victims attacked through the base model need no batch for that.
    alone = sources is None and row.threat.one_victim and row.attack not in CONTROLS
    alone = alone and parse(row.attack).estimator == "transfer"
    victims = {draw: attacked_alone(run, groups, draw) for draw in known} if alone else {}
    for place, group in enumerate(groups):
        x, y = context.group(list(group.batches))
        for draw in known:
            if sources is not None:
                adversarial = submitted_group(run, group, sources, x, y)
            elif victims:
                adversarial = with_victims(group, victims[draw][place], x, free=unit.row.threat.free)
            else:
                adversarial = attack_group(run, group, x, y, draw)
            if tally.adversarials is not None:
                tally.adversarials.add(group.indices, group.stored_victims, draw, x, adversarial)
            if unit.row.threat.whole_batch and draw is None and unit.row.attack != CLEAN:
                for batch, inputs in zip(group.batches, adversarial, strict=True):
                    tally.perturbed.add(batch.members[: batch.scored], inputs[: batch.scored])
            if not unit.scored:
                continue
            for purpose, draws in draws_to_score(context, unit.row, draw):
                margins = score_group(run, group, x, adversarial, y, purpose, draws)
            if tally.pictures is not None:
                _picture(tally.pictures, group, margins, x, adversarial, context.numbers)


def _picture(
    pictures: Pictures, group: Group, margins: np.ndarray, x: Tensor, adversarial: Tensor, numbers: np.ndarray
) -> None:
    """Offers pictures of the inputs with the lowest margins [draws, G, K]; filled-up slots are not scored."""
    margin = margins.mean(axis=0)
    for position, batch in enumerate(group.batches):
        slots = lowest(margin[position, : batch.scored])
        pictures.add(
            numbers[np.asarray(batch.members)[slots]],
            margin[position, slots],
            *(images[position, torch.from_numpy(slots)].cpu().numpy() for images in (x, adversarial)),
        )


def execute(context: WorkerContext, unit: Unit) -> UnitResult:
    """Runs one unit.

    Raises:
        InvalidAnswer: the defence answered most clean inputs with NaN, any with the wrong shape, or no
            longer answers as it did; or a defence has changed the checkpoint.
        Exception: whatever the defence or the attack raised; the engine makes it a recorded failure.
    """
    started = time.perf_counter()
    module = module_of(context.device)
    if hasattr(module, "reset_peak_memory_stats"):
        module.reset_peak_memory_stats(context.device)
    attacked = unit.row.attack not in CONTROLS
    # Random signs, too: they may be what refutes a claim.
    keeps = (context.setup.config.keeps_adversarials and unit.row.attack != CLEAN) or unit.keep
    keeps = keeps and not unit.random_batches
    # Reports show those of the strongest attack on whole batches.
    shows = attacked and unit.row.threat == WHOLE_BATCH
    shows = shows and not unit.random_batches
    tally = Tally(adversarials=Adversarials() if keeps else None, pictures=Pictures() if shows else None)
    context.defence(unit.row.subject)  # built and asked how it answers before it is attacked
    run_unit(context, unit, tally)
    if change := context.memory(unit.row.subject):
        raise InvalidAnswer(f"the defence has a memory: {change} in the course of a unit")
    if change := context.changed(context.model(unit.row.subject.checkpoint)):
        raise InvalidAnswer(f"a defence {change}")
    timing = {"seconds": time.perf_counter() - started, "peak_memory_bytes": _peak_memory(context.device)}
    found = tally.adversarials.tensors() if tally.adversarials else {}
    pictures = tally.pictures.encoded() if tally.pictures else None
    rows = tally.rows(unit) if unit.scored else SCHEMA.empty_table()
    return UnitResult(unit, rows, tally.metadata(), timing, found, pictures)


def _peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak in this unit where it counts that, else the process's so far."""
    module = module_of(device)
    if hasattr(module, "max_memory_allocated"):
        return int(module.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
