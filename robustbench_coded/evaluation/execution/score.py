"""Scoring: what a defence predicts, in float32, on draws that no attack has seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.losses import margin
from robustbench_coded.defences.protocol import Defence, logits_grouped, reject_class
from robustbench_coded.evaluation.execution.answers import answers_or_nan
from robustbench_coded.evaluation.execution.target import draws_of, images_of
from robustbench_coded.evaluation.planning.streams import Purpose
from robustbench_coded.models.prepare import tf32

NO_ANSWER = -1  # the prediction for an input at which a defence fails
BROKEN = 0.5  # share of clean inputs without an answer above which it is no defence that answers


class InvalidAnswer(Exception):
    """A defence answered with the wrong shape, mostly with NaN, or changed in the course of a unit."""


@torch.no_grad()
@tf32(False)
def predictions(
    defence: Defence,
    x: Tensor,
    y: Tensor,
    *,
    seed: int,
    batches: Sequence[int],
    purpose: Purpose,
    draws: Sequence[int],
    group_images: int,
    clean: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What the defence predicts for G batches in each of several draws.

    Args:
        x: inputs [G, K, C, H, W] in [0, 1].
        y: labels [G, K].
        batches: index of each batch, which names its draws.
        draws: indices of the draws.
        group_images: images that may go through the network in one forward.
        clean: the inputs that ``x`` was made from, where it is perturbed. Where the defence rejects an input,
            perturbed or clean, its answer to the clean one, in the same draw, counts: a rejected perturbation
            wins nothing, and an input that is rejected or answered wrongly anyway need not be perturbed.

    Returns:
        predictions int [len(draws), G, K] and margins float32 [len(draws), G, K]: the true class's logit
        less the largest other one. Where the defence answers with NaN or infinite logits, or a perturbed
        input with an exception and the clean one without, the prediction is NO_ANSWER and the margin -inf.

    Raises:
        InvalidAnswer: logits of the wrong shape, or NaN or infinite ones at more than BROKEN of clean inputs.
        Exception: what the defence raises at clean inputs.
    """
    groups, k = x.shape[:2]
    # One forward may hold several draws of the same batches: for small K that is most of the speed.
    together = max(1, group_images // (groups * images_of(defence, k)))
    labels, margins = [], []
    reject = reject_class(defence) if clean is not None else None
    for start in range(0, len(draws), together):
        chosen = draws[start : start + together]
        samples = [s for d in chosen for s in draws_of(defence, k, seed, batches, purpose, d)]
        logits = _answers(defence, x, samples, clean)
        failed = _failed(logits)
        if failed.double().mean() > BROKEN:
            alone = logits if clean is None else _answers(defence, clean, samples, None)
            _check_answers_clean(alone)
        y_chosen = y.expand(len(chosen), -1, -1)
        if reject is not None and clean is not None:
            alone = _answers(defence, clean, samples, None)
            rejected = (alone.argmax(-1) == reject) | (~failed & (logits.argmax(-1) == reject))
            logits = torch.where(rejected.unsqueeze(-1), alone, logits)
            failed = _failed(logits)
        labels.append(logits.argmax(-1).masked_fill(failed, NO_ANSWER).cpu())
        margins.append(margin(logits, y_chosen).masked_fill(failed, -torch.inf).cpu())
    return torch.cat(labels).numpy(), torch.cat(margins).numpy()


def _answers(defence: Defence, x: Tensor, samples: Sequence[Any], clean: Tensor | None) -> Tensor:
    """Logits float32 [draws, G, K, classes] of x [G, K, ...] under G samples of each draw.

    NaN where the defence raises at ``x`` and not at ``clean``, if that is given.
    """
    groups, k = x.shape[:2]
    draws = len(samples) // groups
    # Always a copy: a defence may write into what it is given.
    repeated = x.repeat(draws, *[1] * (x.ndim - 1))
    independent = not defence.randomised and not defence.batch_dependent

    def ask(inputs: Tensor, chosen: Sequence[Any]) -> Tensor:
        return logits_grouped(defence, inputs, chosen)

    logits = answers_or_nan(ask, repeated, samples, clean, independent=independent)
    _check_shape(logits, len(samples), k)
    return logits.float().view(draws, groups, k, -1)


def _failed(logits: Tensor) -> Tensor:
    return ~logits.isfinite().all(-1)


def _check_answers_clean(logits: Tensor) -> None:
    failed = _failed(logits)
    if failed.double().mean() > BROKEN:
        raise InvalidAnswer(
            f"expected finite logits, got NaN or infinite ones at {int(failed.sum())} of {failed.numel()} "
            "clean inputs"
        )


def _check_shape(logits: Tensor, groups: int, k: int) -> None:
    """Raises InvalidAnswer unless ``logits`` is [groups, k, classes]."""
    if logits.ndim != 3 or logits.shape[:2] != (groups, k):
        raise InvalidAnswer(f"expected logits of shape ({groups}, {k}, classes), got {tuple(logits.shape)}")
