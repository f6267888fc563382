"""Scores perturbed inputs that any other tool made, by this project's protocol."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import Subject
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.statistics.intervals import accuracy_interval
from robustbench_coded.verification.given_inputs import GivenInputs, read_given
from robustbench_coded.verification.verify_run import ROUNDING, VerifiedRow


@dataclass(frozen=True)
class ScoredRow(VerifiedRow):
    """A file's inputs behind one defence; ``ci_low`` and ``ci_high`` are the 95% interval of ``accuracy``."""

    ci_low: float = 0.0
    ci_high: float = 1.0


def verify_file(path: Path, config: EvalConfig) -> list[ScoredRow]:
    """Scores the inputs in a file behind every checkpoint and defence of ``config``.

    Args:
        path: a file that `read_given` reads. Where it does not say which examples of the data its inputs were
            made from, they are the first in the data's order. Co-batched inputs that the file does not hold
            are clean.
        config: checkpoints, defences, data and budget.

    Raises:
        InputError: the file is not of that form, or does not fit the data.
    """
    prepared = prepare(replace(config, first=True))
    data = prepared.context.data
    sets = read_given(path, data.image_shape, len(data))
    return [
        _scored(prepared, config, subject, attack, given)
        for subject in prepared.subjects
        for attack, given in sets.items()
    ]


def _scored(
    prepared: PreparedEvaluation, config: EvalConfig, subject: Subject, attack: str, given: GivenInputs
) -> ScoredRow:
    context, eps = prepared.context, prepared.eps[0]
    defence = context.defence(subject)
    place = {int(example): i for i, example in enumerate(given.examples)}
    budget = PerturbationBudget(config.norm, eps)  # type: ignore[arg-type]
    right: list[np.ndarray] = []
    rounded: list[np.ndarray] = []
    unit: list[int] = []
    outside, furthest = 0, 0.0
    draws = list(range(config.draws)) if subject.randomised else [0]
    for batch in context.batches(subject, 0):
        slots = [s for s, member in enumerate(batch.members[: batch.scored]) if member in place]
        if not slots:
            continue
        clean, y = context.group([batch])
        x = clean.clone()
        x[0, slots] = given.x[[place[batch.members[s]] for s in slots]].to(x.device)
        box = ((x < 0) | (x > 1)).flatten(2).any(-1)[0, slots]
        distance = budget.distance(x, clean)[0, slots]
        outside += int((box | (distance > 1 + ROUNDING)).sum())
        furthest = max(furthest, float(distance.max()))
        for images, found in ((x, right), ((x * 255).round() / 255, rounded)):
            labels, _ = predictions(
                defence,
                images,
                y,
                clean=clean,
                seed=config.seed,
                batches=[batch.index],
                purpose="scoring",
                draws=draws,
                group_images=context.setup.group_images,
            )
            found.append((labels[:, 0, slots] == y[0, slots].cpu().numpy()).T)
        unit += [batch.index] * len(slots)
    correct = np.concatenate(right)
    interval = accuracy_interval(correct, np.asarray(unit), batch_dependent=subject.batch_dependent)
    return ScoredRow(
        checkpoint=subject.checkpoint,
        defence=subject.label,
        k=subject.shown_k,
        n=subject.n,
        threat="batch/unknown",
        attack=attack,
        eps=eps,
        inputs=len(correct),
        furthest=furthest,
        outside=outside,
        outcomes=correct.size,
        accuracy=interval.estimate,
        accuracy_8bit=float(np.concatenate(rounded).mean()),
        ci_low=interval.low,
        ci_high=interval.high,
    )
