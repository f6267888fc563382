"""Perturbed inputs that another tool stored: NumPy's files, and those of torch.save.

    read_given(path, shape, examples) -> {attack: GivenInputs}

AutoAttack's script writes ``{"adv_complete": x}`` or, with labels, ``{"adv_complete": (x, y)}``; of single
attacks ``{attack: x}``. torchattacks writes ``{"adv_inputs": x, "labels": y}``. RobustBench attacks by
AutoAttack.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import outside
from robustbench_coded.data.arrays import array, channels_at_the_end
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import ProbedSubject
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.extras.verification.verify_run import VerifiedRow
from robustbench_coded.judge.intervals import accuracy_interval
from robustbench_coded.schema.words import IntervalKind

IMAGES = ("x", "x_adv", "adv_complete", "adv_inputs")
GIVEN = "given"  # the attack of inputs that the file does not name one for
FORMS = "numpy.savez(FILE, x=...) or torch.save({'x': ...}, FILE)"


@dataclass(frozen=True)
class GivenInputs:
    """Inputs of one attack.

    Attributes:
        x: float32 [n, C, H, W].
        examples: [n], the number of the example of the data that each was made from.
    """

    x: Tensor
    examples: np.ndarray


def read_given(path: Path, image_shape: tuple[int, int, int], available: int) -> dict[str, GivenInputs]:
    """The perturbed inputs in a file, by attack.

    Args:
        path: .npz, .npy or a file of torch.save, which is read in weights-only mode.
        image_shape: [C, H, W] of the data.
        available: examples of the data.

    Raises:
        InputError: the file is of no such form, or its inputs do not fit the data.
    """
    stored = _stored(path)
    if not isinstance(stored, Mapping):
        stored = {"x": stored}
    name = next((name for name in IMAGES if name in stored), None)
    if name is not None:
        sets, examples = {GIVEN: stored[name]}, stored.get("example")
    else:
        sets, examples = {str(key): value for key, value in stored.items()}, None
    if not sets or not all(_are_images(value) for value in sets.values()):
        holds = ", ".join(map(str, [*stored][:10])) or "nothing"
        raise InputError(
            f"--adversarials {path} has no array x (it holds {holds}): {', '.join(IMAGES)} or, for each "
            f"attack, images of its own; write it with {FORMS}"
        )
    return {attack: _checked(path, value, examples, image_shape, available) for attack, value in sets.items()}


def _stored(path: Path) -> Any:
    """What is in the file, read without running any of it."""
    try:
        if path.suffix in (".npz", ".npy"):
            content = np.load(path, allow_pickle=False)
            return content if isinstance(content, np.ndarray) else dict(content)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"--adversarials {path}: no such file") from error
    except Exception as error:  # both raise what damaged files happen to cause
        raise InputError(
            f"--adversarials {path} can't be read as .npz, .npy or by torch.load; write it with {FORMS}"
        ) from error


def _are_images(value: Any) -> bool:
    """True if it is x, (x, y) or a list of batches."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return getattr(first, "ndim", 0) in (3, 4)


def _checked(
    path: Path, value: Any, examples: Any, image_shape: tuple[int, int, int], available: int
) -> GivenInputs:
    name = f"--adversarials {path}"
    if isinstance(value, tuple | list):
        batches = [array(part) for part in value]
        pair = len(batches) == 2 and batches[1].ndim == 1  # AutoAttack's (x, y): what x was answered with
        value = batches[0] if pair else np.concatenate(batches)
    x = channels_at_the_end(value, name, channels_last=True)
    channels, height, width = image_shape
    if x.shape[1:] != (height, width, channels):
        raise InputError(f"{name} holds images {x.shape[1:]}, the data {(height, width, channels)}")
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{name} holds NaN or infinite pixels")
    numbers = (np.arange(len(x)) if examples is None else array(examples)).astype(np.int64)
    if numbers.shape != (len(x),) or len(np.unique(numbers)) != len(x):
        raise InputError(f"{name}: example must name another example for each of {len(x)} images")
    if numbers.min() < 0 or numbers.max() >= available:
        raise InputError(f"{name} names examples outside 0 to {available - 1}")
    return GivenInputs(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), numbers)


@dataclass(frozen=True)
class ScoredRow(VerifiedRow):
    """A file's inputs behind one defence; ``ci_low`` and ``ci_high`` are the 95% interval of ``accuracy``,
    None where answers depend on their batches.
    """

    ci_low: float | None = None
    ci_high: float | None = None
    interval_kind: IntervalKind | None = None


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
    sets = read_given(path, data.image_shape, int(prepared.context.numbers.max()) + 1)
    return [
        _scored(prepared, config, subject, attack, given)
        for subject in prepared.subjects
        for attack, given in sets.items()
    ]


def _scored(
    prepared: PreparedEvaluation, config: EvalConfig, subject: ProbedSubject, attack: str, given: GivenInputs
) -> ScoredRow:
    context, eps = prepared.context, prepared.perturbations[0].eps
    defence = context.defence(subject)
    place = {int(example): i for i, example in enumerate(given.examples)}
    budget = PerturbationBudget(config.norm, eps)
    right: list[np.ndarray] = []
    rounded: list[np.ndarray] = []
    unit: list[int] = []
    faulty, furthest = 0, 0.0
    draws = list(range(config.draws)) if subject.randomised else [0]
    for batch in context.batches(subject):
        numbers = context.numbers[list(batch.members[: batch.scored])].tolist()
        slots = [slot for slot, number in enumerate(numbers) if number in place]
        if not slots:
            continue
        clean, y = context.group([batch])
        x = clean.clone()
        x[0, slots] = given.x[[place[numbers[slot]] for slot in slots]].to(x.device)
        faulty += int(outside(x, clean, budget)[0, slots].sum())
        furthest = max(furthest, float(budget.around(clean).distance(x)[0, slots].max()))
        for images, rows in ((x, right), ((x * 255).round() / 255, rounded)):
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
            rows.append((labels[:, 0, slots] == y[0, slots].cpu().numpy()).T)
        unit += [batch.index] * len(slots)
    correct = np.concatenate(right)
    interval = accuracy_interval(
        correct,
        np.asarray(unit),
        batch_dependent=subject.batch_dependent,
        randomised=subject.randomised,
    )
    return ScoredRow(
        checkpoint=subject.checkpoint,
        defence=subject.label,
        k=subject.subject.k,
        n=subject.subject.n,
        threat="batch/unknown",
        attack=attack,
        eps=eps,
        inputs=len(correct),
        furthest=furthest,
        outside=faulty,
        outcomes=correct.size,
        accuracy=interval.estimate,
        accuracy_8bit=float(np.concatenate(rounded).mean()),
        ci_low=interval.low if interval.kind else None,
        ci_high=interval.high if interval.kind else None,
        interval_kind=interval.kind,
    )
