"""One unit of work: attack its batches, score what came out, and return outcome rows to the engine.

Some units score perturbed inputs once more, in random batches of the evaluated images. A batch-dependent
defence has few disjoint batches of images, and any number of random ones. Batches are drawn independently, so
what they show of these images is certain whatever the images are (docs/numbers.md). Each costs one forward
pass of the defence, in one fresh draw.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attacks.attack import EIGHT_BIT_LEVELS, LEVELS, read_runnable
from attacks.oracle import Roles, co_batch, copies, one_victim
from attacks.perturbation_budget import EpsSpace, PerturbationBudget
from attacks.perturbation_transforms import inside, rounded
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.options import is_user_defence
from robustbench_coded.defences.per_batch import Session
from robustbench_coded.defences.sampling import all_seeded
from robustbench_coded.evaluation.execution.perturb import AttackInputs, AttackResult, perturb
from robustbench_coded.evaluation.execution.score import TIE, InvalidAnswer, Tally, predictions
from robustbench_coded.evaluation.execution.target import OTHERS, Target, TargetedDefence, images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT, DrawOptions
from robustbench_coded.evaluation.planning import cases, plan, streams
from robustbench_coded.evaluation.planning.batches import VICTIMS, Batch
from robustbench_coded.evaluation.planning.cases import CHOICE_DRAWS, PlannedCase, Unit
from robustbench_coded.evaluation.planning.comparisons import on_whole_batches, random_batch_images
from robustbench_coded.evaluation.planning.streams import Purpose, stream
from robustbench_coded.runs.adversarials import EVERY, Adversarials, PerturbedBatch
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.schema.words import CLEAN, CONTROLS, RANDOM_SIGN

# Attacks leave broken examples alone where that changes nothing but the time; tests try it without.
STOPS_EARLY = True


def budget_of(
    context: WorkerContext, case: PlannedCase, eps_scale: Tensor | None = None
) -> PerturbationBudget:
    """The budget of a case, in the space that its eps is measured in."""
    normalized = case.perturbation.eps_space == "normalized"
    deviation = context.checkpoint(case.subject.checkpoint).deviation if normalized else None
    norm, eps, space = case.perturbation.norm, case.perturbation.eps, case.perturbation.eps_space
    return PerturbationBudget(norm, eps, cast(EpsSpace, space), deviation, eps_scale)


@dataclass(frozen=True)
class Group:
    """Equally large batches.

    Attributes:
        batches: G batches.
    """

    batches: tuple[Batch, ...]

    @property
    def scored(self) -> list[np.ndarray]:
        """The slots of each batch whose answers count."""
        return [np.asarray(batch.scored_slots, dtype=np.int64) for batch in self.batches]

    @property
    def victims(self) -> tuple[int, ...]:
        """The attacked slot of each batch; empty where several inputs are the attacker's."""
        return tuple(batch.victim for batch in self.batches if batch.victim is not None)

    @property
    def indices(self) -> list[int]:
        """The batches' positions in the partition, which name their random streams."""
        return [batch.index for batch in self.batches]

    @property
    def k(self) -> int:
        return self.batches[0].k


class UnitRun(NamedTuple):
    """A unit in progress: its inputs and its results so far."""

    context: WorkerContext
    unit: Unit
    tally: Tally
    session: Session | None = None  # where the defence remembers the attack's queries


def groups_of(run: UnitRun) -> Iterator[Group]:
    """The groups of a unit, in their order."""
    subject = run.unit.case.subject
    for indices in run.unit.groups:
        yield Group(tuple(run.context.batch(subject, index) for index in indices))


RANDOM = "random"  # the purpose of outcomes in random batches; their draw is the number of the batch


def question(
    run: UnitRun, group: Group, clean: Tensor, x: Tensor, y: Tensor, purpose: Purpose
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What asks the unit's defence for its `predictions` of x [G, K, C, H, W], made from ``clean``, of labels
    y [G, K]; it takes ``draws``. It holds no run, whose tally keeps the last one: a cycle would keep inputs.
    """
    return partial(
        predictions,
        run.session.scored() if run.session else run.context.defence(run.unit.case.subject),
        x,
        y,
        clean=None if run.unit.case.attack == CLEAN else clean,
        seed=run.context.setup.options.seed,
        batches=group.indices,
        purpose=purpose,
        group_images=run.context.setup.group_images,
    )


def score_group(
    run: UnitRun,
    group: Group,
    clean: Tensor,
    x: Tensor,
    y: Tensor,
    purpose: Purpose,
    draws: list[int],
    numbers: Sequence[int] | None = None,
) -> None:
    """Scores one group.

    Args:
        numbers: of random batches, one each; their outcomes have the purpose ``random``.
    """
    ask = question(run, group, clean, x, y, purpose)
    labels, margins = ask(draws=draws)
    if is_user_defence(run.unit.case.subject.spec):
        run.tally.last = labels[-1:], partial(ask, draws=draws[-1:])
    for position, (batch, slots) in enumerate(zip(group.batches, group.scored, strict=True)):
        run.tally.add(
            purpose if numbers is None else RANDOM,
            draws if numbers is None else [numbers[position]],
            example=run.context.numbers[np.asarray(batch.members)[slots]],
            batch=np.full(len(slots), batch.index),
            slot=slots,
            label=y[position].cpu().numpy()[slots],
            prediction=labels[:, position, slots],
            margin=margins[:, position, slots],
        )


def attack_group(run: UnitRun, group: Group, x: Tensor, y: Tensor, known: int | None) -> Tensor:
    """The group after the attack, ``[G, K, C, H, W]``.

    Args:
        x, y: its images and labels.
        known: the scoring draw that the attacker knows, if any.
    """
    case, seed = run.unit.case, run.context.setup.options.seed
    if case.attack == CLEAN:
        return x
    roles = None
    if group.victims:
        make = co_batch if case.threat.free else one_victim
        roles = make(torch.tensor(group.victims), group.k)
    if case.attack == RANDOM_SIGN:
        budget = budget_of(run.context, case, None if roles is None else roles.eps_scale.to(x.device))
        return budget.around(x).random_sign(_generators(group, seed, known or 0))
    return run.tally.attacked(perturbed(run, group, x, y, known, roles))


def perturbed(
    run: UnitRun, group: Group, x: Tensor, y: Tensor, known: int | None, roles: Roles | None
) -> AttackResult:
    """The attack of a unit on x [G, k, C, H, W] and y [G, k]; ``roles`` None where all inputs are alike."""
    context, case, seed = run.context, run.unit.case, run.context.setup.options.seed
    budget = budget_of(context, case, None if roles is None else roles.eps_scale.to(x.device))
    attack = read_runnable(case.attack)
    defence, scored = context.attack_defence(case.subject), context.defence(case.subject)
    if run.session is not None:
        defence = scored = run.session
    # Standard inference is attacked through itself only for others, who get the steps of all examples.
    standard = isinstance(defence, Standard)
    base = defence.model if isinstance(defence, Standard) else defence.base
    if attack.target is not None:
        defence = TargetedDefence(defence, attack.target, base)
        scored = TargetedDefence(scored, attack.target)
        base, y = defence.base, torch.full_like(y, OTHERS)
    # Only user code may fail at inputs; an exception in this package is a bug.
    failing = x if is_user_defence(case.subject.spec) else None
    victims = group.victims if roles is not None else ()
    target = Target(defence, group.k, seed, group.indices, failing, victims)
    inputs = AttackInputs(
        target=target,
        base=base,
        x=x,
        y=y,
        budget=budget,
        generators=_generators(group, seed, known or 0),
        known=None if known is None else target.known_draws(known),
        weights=None if roles is None else roles.weights.to(x.device),
        scored=None if group.victims or run.session else scored,
        max_images=context.setup.group_images,
        early_stop=STOPS_EARLY and not (standard and attack.uses_base),
    )
    network = context.model(case.subject.checkpoint)
    if not context.samples(network):
        return perturb(attack, inputs)
    # A base model that samples is asked without a draw.
    with all_seeded(network, stream(seed, group.indices[0], "base").initial_seed()):
        return perturb(attack, inputs)


def _generators(group: Group, seed: int, index: int) -> list[torch.Generator]:
    """A start for each batch."""
    return [stream(seed, batch, "start", index) for batch in group.indices]


def attacked_alone(run: UnitRun, groups: list[Group], known: int | None) -> list[Tensor]:
    """The groups' victims after the attack, ``[G, C, H, W]`` for each group.

    Args:
        known: the scoring draw that the attacker knows, if any.
    """
    batches = [batch for group in groups for batch in group.batches]
    most, perturbed_inputs = run.context.setup.group_images, []
    for start in range(0, len(batches), most):
        together = Group(tuple(batches[start : start + most]))
        pairs = zip(together.batches, together.victims, strict=True)
        alone = [Batch(batch.index, (batch.members[slot],), scored=1) for batch, slot in pairs]
        x, y = run.context.group(alone)
        perturbed_inputs.append(run.tally.attacked(perturbed(run, together, x, y, known, None))[:, 0])
    return list(torch.cat(perturbed_inputs).split([len(group.victims) for group in groups]))


def with_victims(group: Group, perturbed: Tensor, x: Tensor, *, free: bool) -> Tensor:
    """x [G, K, C, H, W] with the victims ``perturbed`` [G, C, H, W].

    The best that ``free`` co-batched inputs can do for them is to be copies of them.
    """
    if free:
        return copies(perturbed, group.k)
    adversarial = x.clone()
    adversarial[torch.arange(len(group.victims)), torch.tensor(group.victims)] = perturbed
    return adversarial


def submitted_group(
    run: UnitRun, group: Group, sources: list[dict[int, PerturbedBatch]], x: Tensor, y: Tensor
) -> Tensor:
    """The group as it is submitted, ``[G, K, C, H, W]``; an input that no source perturbed stays clean.

    Args:
        sources: for each source the perturbed inputs by batch.
        x, y: the group's images and labels.
    """
    candidates = [_transformed(run, placed(group, source, x), x) for source in sources]
    return _worst(run, group, candidates, x, y) if len(candidates) > 1 else candidates[0]


def placed(group: Group, source: dict[int, PerturbedBatch], clean: Tensor) -> Tensor:
    """The batches with the inputs that a source perturbed in them."""
    x = clean.clone()
    for position, batch in enumerate(group.batches):
        if batch.index in source:
            evaluation = source[batch.index]
            x[position, evaluation.slots.to(x.device)] = evaluation.x.to(x)
    return x


def _transformed(run: UnitRun, x: Tensor, clean: Tensor) -> Tensor:
    """What the submission's transforms make of perturbed inputs, inside the target's own ball."""
    case = run.unit.case
    assert case.submission is not None
    budget = budget_of(run.context, case)
    x = inside(x, clean, budget)
    for option, value in case.submission.transforms:
        x = rounded(x, clean, budget, int(value) if option == LEVELS else EIGHT_BIT_LEVELS)
    return inside(x, clean, budget)


def _worst(run: UnitRun, group: Group, candidates: list[Tensor], clean: Tensor, y: Tensor) -> Tensor:
    """For each input the candidate with the fewest right answers on the attacker's own draws, for each batch
    where inputs are answered together; of those that tie the one with the lowest margin, then the first."""
    defence = run.context.defence(run.unit.case.subject)
    draws = list(range(CHOICE_DRAWS)) if defence.randomised else [0]
    best, lowest = candidates[0], None
    for candidate in candidates:
        predicted, margins = question(run, group, clean, candidate, y, "attack")(draws=draws)
        run.tally.counts["forwards"] += len(draws) * len(group.batches) * images_of(defence, group.k)
        right = (predicted == y.cpu().numpy()).sum(0).astype(np.float64)
        margin = margins.astype(np.float64).sum(0)
        if run.unit.case.subject.batch_dependent:
            right, margin = (_of_batches(figure, group) for figure in (right, margin))
        if lowest is None:
            lowest = right, margin
            continue
        better = (right < lowest[0]) | ((right == lowest[0]) & (margin < lowest[1]))
        lowest = np.where(better, right, lowest[0]), np.where(better, margin, lowest[1])
        chosen = torch.from_numpy(better).to(clean.device)[:, :, None, None, None]
        best = torch.where(chosen, candidate, best)
    return best


def _of_batches(figure: np.ndarray, group: Group) -> np.ndarray:
    """[G, K], each slot bearing the sum over the scored slots of its batch."""
    sums = [figure[position, slots].sum() for position, slots in enumerate(group.scored)]
    return np.broadcast_to(np.asarray(sums)[:, None], figure.shape)


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
        timing: seconds, which differ between runs.
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
    # Victims attacked through the base model, from the first step on, need no batch for that.
    through_base = case.made_by is not None and case.made_by.knows == "transfer" and not case.made_by.init
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
    # Random signs, too: they may be what refutes a claim.
    keeps = (context.setup.options.keeps_adversarials and unit.case.attack != CLEAN) or unit.keep
    keeps = keeps and not unit.random_batches
    tally = Tally(adversarials=Adversarials() if keeps else None)
    context.defence(unit.case.subject)  # built and asked how it answers before it is attacked
    run_unit(context, unit, tally)
    if is_user_defence(unit.case.subject.spec):
        change = context.memory(unit.case.subject)  # asks something else, which ends a memory of the last
        if change is None and tally.last is not None and not unit.case.subject.sequence:
            before, ask_again = tally.last
            now, margins = ask_again()
            moved = (now != before) & ~(np.abs(margins) < TIE)
            change = f"{moved.sum()} of {moved.size} predictions have changed" if moved.any() else None
        if change:
            raise InvalidAnswer(f"the defence has a memory: {change} in the course of a unit")
    if change := context.changed(context.model(unit.case.subject.checkpoint)):
        raise InvalidAnswer(f"a defence {change}")
    tensors = tally.adversarials.tensors() if tally.adversarials else {}
    rows = tally.rows(unit) if unit.scored else SCHEMA.empty_table()
    return UnitResult(unit, rows, tally.metadata(), {"seconds": time.perf_counter() - started}, tensors)
