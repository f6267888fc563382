"""Perturbed inputs that were made elsewhere: put into the batches of a group, and attacks on a plug-
in's checkpoint that make some for the plug-in alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attacks.attack_name import BITS, LEVELS, SHRUNK, SLOTS
from attacks.perturbation_transforms import in_some_slots, inside, rounded, scaled
from robustbench_coded.evaluation.execution.attack_group import Group, UnitRun, answers_of, budget_of
from robustbench_coded.evaluation.execution.in_memory import Alone, ModelInMemory, is_plugin
from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import CHOICE_DRAWS, AttackCase, Subject
from robustbench_coded.runs.adversarials import PerturbedBatch
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS, STANDARD


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
    case = run.unit.row
    assert case.submission is not None
    budget = budget_of(run.context, case)
    x = inside(x, clean, budget)
    for option, value in case.submission.transforms:
        if option == SHRUNK:
            x = scaled(x, clean, float(value))
        elif option == SLOTS:
            x = in_some_slots(x, clean, float(value))
        elif option == LEVELS:
            x = rounded(x, clean, budget, int(value))
        elif option == BITS:
            x = rounded(x, clean, budget)
        else:
            raise ValueError(f"expected shrunk, slots, levels or bits, got {option!r}")
    return x


def _worst(run: UnitRun, group: Group, candidates: list[Tensor], clean: Tensor, y: Tensor) -> Tensor:
    """For each input the candidate with the fewest right answers on the attacker's own draws, for each batch
    where inputs are answered together; of those that tie the one with the lowest margin, then the first."""
    defence = run.context.defence(run.unit.row.subject)
    draws = list(range(CHOICE_DRAWS)) if defence.randomised else [0]
    best, lowest = candidates[0], None
    for candidate in candidates:
        predicted, margins = answers_of(run, group, clean, candidate, y, "attack", draws)
        run.tally.counts["forwards"] += len(draws) * len(group.batches) * images_of(defence, group.k)
        right = (predicted == y.cpu().numpy()).sum(0).astype(np.float64)
        margin = margins.astype(np.float64).sum(0)
        if run.unit.row.subject.batch_dependent:
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


# All steps for all examples: what stops at the first wrong answer hardly leaves the checkpoint's boundary.
THROUGH_CHECKPOINT = ("transfer-pgd-20", "transfer-apgd-mt-20")
# Where the checkpoint itself samples, and its gradients must come with draws.
OF_SAMPLING = ("eot10-pgd-20", "apgd-mt-20")


def hidden_sources(context: WorkerContext, rows: Sequence[AttackCase]) -> dict[Subject, list[AttackCase]]:
    """For each plug-in that needs them the attacks on its checkpoint, one for each budget."""
    found: dict[Subject, list[AttackCase]] = {}
    evaluated = {row.subject for row in rows}
    for subject in dict.fromkeys(row.subject for row in rows):
        if not is_plugin(subject.spec) or not _needs(context, subject, evaluated):
            continue
        standard = replace(
            subject,
            spec=STANDARD,
            label=STANDARD,
            n=None,
            randomised=context.samples(context.model(subject.checkpoint)),
            batch_dependent=False,
            has_base=False,
            images=subject.k,
        )
        budgets = {
            row.budget: row
            for row in reversed(rows)
            if row.subject == subject and row.attack not in CONTROLS and not row.for_check
        }
        names = OF_SAMPLING if standard.randomised else THROUGH_CHECKPOINT
        found[subject] = [
            AttackCase(standard, WHOLE_BATCH, name, *budget, step_size=None)
            for budget in budgets
            for name in names
        ]
    return found


def _needs(context: WorkerContext, subject: Subject, evaluated: set[Subject]) -> bool:
    """Whether attacks through the plug-in's base are not attacks on its checkpoint."""
    model = context.model(subject.checkpoint)
    if isinstance(model, ModelInMemory) and not model.differentiable:
        return False  # these attacks follow its gradient
    if isinstance(model.network, Alone):
        return False  # the plug-in came without a model, and this is itself
    beside = any(other.checkpoint == subject.checkpoint and other.spec == STANDARD for other in evaluated)
    return not beside or context.defence(subject).base is not model
