"""Scores perturbed inputs that any other tool made, by this project's protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.statistics.intervals import accuracy_interval
from robustbench_coded.verification.verify_run import ROUNDING, VerifiedRow


@dataclass(frozen=True)
class ScoredRow(VerifiedRow):
    """A file's inputs behind one defence; ``ci_low`` and ``ci_high`` are the 95% interval of ``accuracy``."""

    ci_low: float = 0.0
    ci_high: float = 1.0


def verify_file(path: Path, config: EvalConfig) -> list[ScoredRow]:
    """Scores the inputs in a file behind every checkpoint and defence of ``config``.

    Args:
        path: .npz with ``x``, uint8 or floats in [0, 1], [n, H, W, C] or [n, H, W]; and, where they are not
            the first n, ``example`` [n], which examples of the data they were made from. Co-batched inputs
            that the file does not hold are clean.
        config: checkpoints, defences, data and budget.

    Raises:
        InputError: the file is not of that form, or does not fit the data.
    """
    prepared = prepare(config)
    x, examples = _read(path, prepared.context.data)
    return [_scored(prepared, config, subject, x, examples) for subject in prepared.subjects]


def _read(path: Path, data: Dataset) -> tuple[Tensor, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ("x", "x_adv", "example")}
    except FileNotFoundError as error:
        raise InputError(f"--adversarials {path}: no such file") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            f"--adversarials {path} can't be read as .npz; write one with numpy.savez({path.name!r}, x=...)"
        ) from error
    x = arrays.get("x", arrays.get("x_adv"))
    if x is None:
        raise InputError(f"--adversarials {path} has no array x; save one with numpy.savez(FILE, x=...)")
    if x.ndim == 3:
        x = x[..., None]
    channels, height, width = data.image_shape
    if x.shape[1:] == (channels, height, width) != (height, width, channels):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[1:] != (height, width, channels):
        raise InputError(
            f"--adversarials {path} holds images {x.shape[1:]}, the data {(height, width, channels)}"
        )
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"--adversarials {path} holds NaN or infinite pixels")
    examples = arrays.get("example", np.arange(len(x))).astype(np.int64)
    if examples.shape != (len(x),) or len(np.unique(examples)) != len(x):
        raise InputError(
            f"--adversarials {path}: example must name another example for each of {len(x)} images"
        )
    if len(x) == 0 or examples.min() < 0 or examples.max() >= len(data):
        raise InputError(f"--adversarials {path} names examples outside 0 to {len(data) - 1}")
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), examples


def _scored(
    prepared: PreparedEvaluation, config: EvalConfig, subject: Any, given: Tensor, examples: np.ndarray
) -> ScoredRow:
    context, eps = prepared.context, prepared.eps[0]
    defence = context.defence(subject)
    place = {int(example): i for i, example in enumerate(examples)}
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
        x[0, slots] = given[[place[batch.members[s]] for s in slots]].to(x.device)
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
        attack="given",
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
