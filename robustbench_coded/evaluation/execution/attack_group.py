"""The groups of a unit, batches that are attacked and answered side by side, and how they are
perturbed as the case's threat model and attack say; perturbed inputs that were made elsewhere, put into the
batches of a group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from attacks.attack import EIGHT_BIT_LEVELS, LEVELS
from attacks.naming import read_runnable
from attacks.objective import Roles, co_batch, copies, one_victim
from attacks.perturbation_budget import EpsSpace, PerturbationBudget
from attacks.perturbation_transforms import inside, rounded
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.kept_memory import Session
from robustbench_coded.defences.options import is_user_defence
from robustbench_coded.defences.sampling import all_seeded
from robustbench_coded.evaluation.execution.perturb import AttackInputs, AttackResult, perturb
from robustbench_coded.evaluation.execution.score import Tally, predictions
from robustbench_coded.evaluation.execution.target import OTHERS, Target, TargetedDefence, images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import Batch
from robustbench_coded.evaluation.planning.cases import CHOICE_DRAWS, PlannedCase, Unit
from robustbench_coded.evaluation.planning.streams import Purpose, stream
from robustbench_coded.runs.adversarials import PerturbedBatch
from robustbench_coded.schema.words import CLEAN, RANDOM_SIGN

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


def answers_of(
    run: UnitRun,
    group: Group,
    clean: Tensor,
    x: Tensor,
    y: Tensor,
    purpose: Purpose,
    draws: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """`predictions` of the unit's defence for x [G, K, C, H, W], made from ``clean``, of labels y [G, K]."""
    return predictions(
        run.session.scored() if run.session else run.context.defence(run.unit.case.subject),
        x,
        y,
        clean=None if run.unit.case.attack == CLEAN else clean,
        seed=run.context.setup.options.seed,
        batches=group.indices,
        purpose=purpose,
        draws=draws,
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
    labels, margins = answers_of(run, group, clean, x, y, purpose, draws)
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
        defence, scored = (
            TargetedDefence(defence, attack.target, base),
            TargetedDefence(scored, attack.target),
        )
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
        predicted, margins = answers_of(run, group, clean, candidate, y, "attack", draws)
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
