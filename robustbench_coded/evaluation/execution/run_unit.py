"""One unit of work: attack its batches, score what came out, and return outcome rows to the engine.

Some units score perturbed inputs once more, in random batches of the evaluated images. A batch-dependent
defence has few disjoint batches of images, and any number of random ones. Batches are drawn independently, so
what they show of these images is certain whatever the images are (docs/numbers.md). Each costs one forward
pass of the defence, in one fresh draw.
"""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attacks.accelerator import module_of
from robustbench_coded.defences.kept_memory import Session
from robustbench_coded.defences.options import is_user_defence
from robustbench_coded.evaluation.execution.attack_group import (
    Group,
    UnitRun,
    attack_group,
    attacked_alone,
    groups_of,
    placed,
    score_group,
    submitted_group,
    with_victims,
)
from robustbench_coded.evaluation.execution.score import InvalidAnswer, Tally
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT, DrawOptions
from robustbench_coded.evaluation.planning import cases, plan, streams
from robustbench_coded.evaluation.planning.batches import VICTIMS, Batch
from robustbench_coded.evaluation.planning.comparisons import on_whole_batches, random_batch_images
from robustbench_coded.runs.adversarials import EVERY, Adversarials
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.schema.words import CLEAN, CONTROLS

# Units are a hundredth of those of attacks, so that several workers share a few hundred batches.
IMAGES = IMAGES_PER_UNIT // 100
GROUPS = 10  # that go through a network together: of large images these, and so the units, are smaller


def random_batch(examples: Sequence[int], k: int, seed: int, number: int, planned: int) -> Batch:
    """Random batch ``number`` (1 ...): k different ones of the examples, in random slots.

    Its index, and with it its random streams, lie beyond those of the ``planned`` batches. Fewer than k
    examples fill a batch up again, and are scored once.
    """
    order = torch.randperm(len(examples), generator=streams.stream(seed, number, "partition", 1)).tolist()
    members = tuple(examples[order[slot % len(order)]] for slot in range(k))
    return Batch(planned + number - 1, members, min(k, len(examples)))


def random_units(case: cases.PlannedCase, maker: plan.UnitMaker, count: int) -> list[cases.Unit]:
    """The units that score a case in ``count`` random batches of the images that it was run on; victims, each
    in its own batch, with their inputs from attacks on whole batches.
    """
    if case.threat.one_victim:
        base = maker.units_of_first(on_whole_batches(case), count)
    else:
        base = tuple(maker.units(case))
    groups = tuple(group for unit in base for group in unit.groups)
    cost = random_batch_images(case)
    each = max(1, min(IMAGES, GROUPS * maker.group_images) // cost)
    made = []
    for start in range(1, count + 1, each):
        numbers = range(start, min(start + each, count + 1))
        made.append(
            maker.identified(
                replace(
                    base[0],
                    case=case,
                    groups=groups,
                    images=cost * len(numbers),
                    random_batches=tuple(numbers),
                    sources=() if case.attack in CONTROLS else (base,),
                )
            )
        )
    return made


def score_random_batches(run: UnitRun) -> None:
    """Outcomes of the scored slots: of victims one in each batch, else all."""
    context, unit = run.context, run.unit
    subject, seed = unit.case.subject, context.setup.options.seed
    images, perturbed = perturbed_inputs(run)
    place = {member: position for position, member in enumerate(images)}
    every = len(context.batches(subject))
    together = max(1, context.setup.group_images // subject.images)
    for start in range(0, len(unit.random_batches), together):
        numbers = unit.random_batches[start : start + together]
        if unit.case.threat.one_victim:
            batches = tuple(context.batch(subject, VICTIMS + number - 1) for number in numbers)
        else:
            batches = tuple(random_batch(images, subject.k, seed, number, every) for number in numbers)
        group = Group(batches)
        clean, y = context.group(list(batches))
        x = clean.clone()
        for position, batch in enumerate(batches):
            attacked = group.scored[position] if group.victims else np.arange(batch.k)
            x[position, attacked] = perturbed[[place[batch.members[slot]] for slot in attacked]].to(clean)
        score_group(run, group, clean, x, y, "scoring", [0], numbers)


def perturbed_inputs(run: UnitRun) -> tuple[list[int], Tensor]:
    """The scored examples, and for each its perturbed input, as it was attacked in its own batch."""
    submitted = run.unit.submitted
    sources = None if submitted is None else submitted.read()
    images: list[int] = []
    batches = []
    for group in groups_of(run):
        x, y = run.context.group(list(group.batches))
        if sources is None:  # a control: nothing was attacked
            adversarial = attack_group(run, group, x, y, None)
        elif run.unit.case.submission is None:
            adversarial = placed(group, sources[0], x)
        else:
            adversarial = submitted_group(run, group, sources, x, y)
        for batch, inputs in zip(group.batches, adversarial, strict=True):
            images += batch.members[: batch.scored]
            batches.append(inputs[: batch.scored].cpu())
    return images, torch.cat(batches)


@dataclass(frozen=True)
class UnitResult:
    """A finished unit.

    Attributes:
        rows: its outcome rows, in the columns of `runs.outcomes.SCHEMA`.
        metadata: stored with the outcomes and equal in every run: image counts and notes of the attack.
        timing: seconds and peak memory, which differ between runs.
        adversarials: the perturbed inputs, if asked for.
    """

    unit: cases.Unit
    rows: pa.Table
    metadata: dict[str, Any]
    timing: dict[str, Any]
    adversarials: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitFailure:
    """A unit without outcomes, and why. The report counts it as a failure, never as robust examples.

    Attributes:
        error: one line.
        attempts: how often it was tried.
        details: the end of the traceback, where there was one.
        process_unusable: whether the process that tried it can't be used any more, as after a CUDA fault.
    """

    unit: cases.Unit
    error: str
    attempts: int
    details: str = ""
    process_unusable: bool = False


def draws_to_score(
    options: DrawOptions, case: cases.PlannedCase, known: int | None
) -> list[tuple[streams.Purpose, list[int]]]:
    """Which draws a case is scored on, by purpose: the one that the attacker knew, if any; a deterministic
    defence has only one answer.
    """
    if known is not None or not case.subject.randomised:
        return [("scoring", [known or 0])]
    selection, scoring = range(options.selection_draws), range(options.draws)
    return [("selection", list(selection)), ("scoring", list(scoring))]


def run_unit(context: WorkerContext, unit: cases.Unit, tally: Tally) -> None:
    """Attacks and scores the groups of a unit; where the draw is known, anew for each scored draw."""
    if unit.random_batches:
        score_random_batches(UnitRun(context, unit, tally))
        return
    run = UnitRun(context, unit, tally)
    sources = None if unit.submitted is None else unit.submitted.read()
    case, options = unit.case, context.setup.options
    # Under known randomness scoring draws are attacked one by one.
    known = range(options.known_draws) if case.threat.draw_known else [None]
    groups = list(groups_of(run))
    # Victims attacked through the base model need no batch for that.
    through_base = case.made_by is not None and case.made_by.knows == "transfer"
    alone = sources is None and case.threat.one_victim and through_base
    victims = {draw: attacked_alone(run, groups, draw) for draw in known} if alone else {}
    for place, group in enumerate(groups):
        x, y = context.group(list(group.batches))
        if cases.sees_queries(case.subject, case.made_by):
            run = run._replace(session=Session(context.defence(case.subject)))  # type: ignore[arg-type]
        for draw in known:
            if sources is not None:
                adversarial = submitted_group(run, group, sources, x, y)
            elif victims:
                adversarial = with_victims(group, victims[draw][place], x, free=unit.case.threat.free)
            else:
                adversarial = attack_group(run, group, x, y, draw)
            if tally.adversarials is not None:
                tally.adversarials.add(
                    group.indices, list(group.victims) or [EVERY] * len(group.batches), draw, x, adversarial
                )
            if unit.case.threat.inputs == "batch" and draw is None and unit.case.attack != CLEAN:
                for batch, inputs in zip(group.batches, adversarial, strict=True):
                    tally.perturbed.add(batch.members[: batch.scored], inputs[: batch.scored])
            if not unit.scored:
                continue
            for purpose, draws in draws_to_score(options, unit.case, draw):
                score_group(run, group, x, adversarial, y, purpose, draws)


def execute(context: WorkerContext, unit: cases.Unit) -> UnitResult:
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
    # Random signs, too: they may be what refutes a claim.
    keeps = (context.setup.options.keeps_adversarials and unit.case.attack != CLEAN) or unit.keep
    keeps = keeps and not unit.random_batches
    tally = Tally(adversarials=Adversarials() if keeps else None)
    context.defence(unit.case.subject)  # built and asked how it answers before it is attacked
    run_unit(context, unit, tally)
    if is_user_defence(unit.case.subject.spec) and (change := context.memory(unit.case.subject)):
        raise InvalidAnswer(f"the defence has a memory: {change} in the course of a unit")
    if change := context.changed(context.model(unit.case.subject.checkpoint)):
        raise InvalidAnswer(f"a defence {change}")
    # The device's peak in this unit where it counts that, else the process's so far.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if hasattr(module, "max_memory_allocated"):
        peak = int(module.max_memory_allocated(context.device))
    timing = {"seconds": time.perf_counter() - started, "peak_memory_bytes": peak}
    tensors = tally.adversarials.tensors() if tally.adversarials else {}
    rows = tally.rows(unit) if unit.scored else SCHEMA.empty_table()
    return UnitResult(unit, rows, tally.metadata(), timing, tensors)
