"""Random batches of the evaluated images, in which perturbed inputs are scored once more.

A batch-dependent defence has few disjoint batches of images, and any number of random ones. Batches are drawn
independently, so what they show of these images is certain whatever the images are (docs/numbers.md). Each
costs one forward pass of the defence, in one fresh draw.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attacks.naming import parse
from robustbench_coded.evaluation.execution.attack_group import (
    Group,
    UnitRun,
    attack_group,
    groups_of,
    score_group,
)
from robustbench_coded.evaluation.execution.submitted import placed, submitted_group
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT
from robustbench_coded.evaluation.planning.batches import Batch
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import UnitMaker, batches_for
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS

# Units are a twentieth of those of attacks, so that several workers share a few hundred batches.
IMAGES = IMAGES_PER_UNIT // 20
GROUPS = 10  # that go through a network together: of large images these, and so the units, are smaller


def depends_on_batch(case: AttackCase) -> bool:
    """Whether an input's perturbation depends on the inputs that it was attacked together with."""
    if case.attack in CONTROLS:
        return False
    if case.submission is not None:
        sources = [source[0].row for source in case.submission.sources]
        # The worst of several is chosen for a batch.
        return len(sources) > 1 or (sources[0].subject.batch_dependent and depends_on_batch(sources[0]))
    name = parse(case.attack)
    return name.estimator != "transfer" or name.third_party is not None or name.init is not None


def random_batch(examples: Sequence[int], k: int, seed: int, number: int, planned: int) -> Batch:
    """Random batch ``number`` (1 ...): k different ones of the examples, in random slots.

    Its index, and with it its random streams, lie beyond those of the ``planned`` batches. Fewer than k
    examples fill a batch up again, and are scored once.
    """
    order = torch.randperm(len(examples), generator=stream(seed, number, "partition", 1)).tolist()
    members = tuple(examples[order[slot % len(order)]] for slot in range(k))
    return Batch(planned + number - 1, members, min(k, len(examples)))


def victims_batch(examples: Sequence[int], k: int, seed: int, number: int, planned: int) -> tuple[Batch, int]:
    """Random batch ``number`` (1 ...) of clean inputs with one victim, and its slot; it alone is scored.

    The victims of different numbers are different examples, in random order.
    """
    order = torch.randperm(len(examples), generator=stream(seed, -1, "victims")).tolist()
    victim = examples[order[number - 1]]
    generator = stream(seed, number, "victims", 1)
    others = [examples[place] for place in torch.randperm(len(examples), generator=generator).tolist()]
    others = [member for member in others if member != victim] or [victim]
    slot = int(torch.randint(k, (1,), generator=generator))
    members = [others[place % len(others)] for place in range(k - 1)]
    return Batch(planned + number - 1, (*members[:slot], victim, *members[slot:]), k), slot


def on_whole_batches(case: AttackCase) -> AttackCase:
    """The same attack on all inputs of a batch: its inputs serve as victims of other batches, too."""
    return replace(case, threat=WHOLE_BATCH)


def random_units(case: AttackCase, maker: UnitMaker, count: int) -> list[Unit]:
    """The units that score a row in ``count`` random batches of the images that it was run on, or a few
    more: units are whole. Of victims at most each image once.
    """
    victims = case.threat.one_victim
    base = maker.units(on_whole_batches(case) if victims else case)
    groups = tuple(group for unit in base for group in unit.groups)
    if victims:
        attacked = {index for group in groups for index in group}
        batches = batches_for(maker.config, case.subject, maker.examples)
        images = sum(batch.scored for batch in batches if batch.index in attacked)
        count = min(count, images)
    cost = max(1, case.subject.images // 3)  # a forward is a third of a gradient
    each = max(1, min(IMAGES, GROUPS * maker.group_images) // cost)
    made = []
    for start in range(1, count + 1, each):
        numbers = range(start, min(start + each, images + 1) if victims else start + each)
        made.append(
            maker.identified(
                replace(
                    base[0],
                    row=case,
                    groups=groups,
                    images=cost * len(numbers),
                    random_batches=tuple(numbers),
                    attacked=() if case.attack in CONTROLS or case.submission is not None else tuple(base),
                )
            )
        )
    return made


def score_random_batches(run: UnitRun) -> None:
    """Outcomes of the scored slots: of victims one in each batch, else all."""
    context, unit = run.context, run.unit
    subject, seed = unit.row.subject, context.setup.config.seed
    images, perturbed = perturbed_inputs(run)
    place = {member: position for position, member in enumerate(images)}
    every = len(context.batches(subject))
    together = max(1, context.setup.group_images // subject.images)
    for start in range(0, len(unit.random_batches), together):
        numbers = unit.random_batches[start : start + together]
        if unit.row.threat.one_victim:
            made = [victims_batch(images, subject.k, seed, number, every) for number in numbers]
            batches, victims = zip(*made, strict=True)
            group = Group(batches, tuple(np.asarray([slot]) for slot in victims), victims)
        else:
            batches = tuple(random_batch(images, subject.k, seed, number, every) for number in numbers)
            group = Group(batches, tuple(np.arange(batch.scored) for batch in batches))
        clean, y = context.group(list(batches))
        x = clean.clone()
        for position, (batch, slots) in enumerate(zip(batches, group.scored, strict=True)):
            attacked = slots if group.victims else np.arange(batch.k)
            x[position, attacked] = perturbed[[place[batch.members[slot]] for slot in attacked]].to(clean)
        score_group(run, group, clean, x, y, "scoring", [0], numbers)


def perturbed_inputs(run: UnitRun) -> tuple[list[int], Tensor]:
    """The scored examples, and for each its perturbed input, as it was attacked in its own batch."""
    submitted = run.unit.submitted
    sources = None if submitted is None else submitted.read()
    images: list[int] = []
    found = []
    for group in groups_of(run):
        x, y = run.context.group(list(group.batches))
        if sources is None:  # a control: nothing was attacked
            adversarial = attack_group(run, group, x, y, None)
        elif run.unit.row.submission is None:
            adversarial = placed(group, sources[0], x)
        else:
            adversarial = submitted_group(run, group, sources, x, y)
        for batch, inputs in zip(group.batches, adversarial, strict=True):
            images += batch.members[: batch.scored]
            found.append(inputs[: batch.scored].cpu())
    return images, torch.cat(found)
