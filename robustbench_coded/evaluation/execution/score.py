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
from robustbench_coded.models.tf32 import tf32

NO_ANSWER = -1  # the prediction for an input at which a defence fails


class InvalidAnswer(Exception):
    """A defence answered with the wrong shape or with NaN or infinite logits."""


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
        less the largest other one. Where the defence answers a perturbed input with NaN or infinite logits or
        with an exception, and the clean one with neither, the prediction is NO_ANSWER and the margin -inf.

    Raises:
        InvalidAnswer: logits of the wrong shape, or clean inputs that are answered by NaN or infinite ones.
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
        failed = ~logits.isfinite().all(-1)
        if clean is not None and bool(failed.any()):
            _answers(defence, clean, samples, None)
        y_chosen = y.expand(len(chosen), -1, -1)
        if reject is not None and clean is not None:
            alone = _answers(defence, clean, samples, None)
            rejected = (alone.argmax(-1) == reject) | (logits.argmax(-1) == reject)
            logits = torch.where(rejected.unsqueeze(-1), alone, logits)
        labels.append(logits.argmax(-1).masked_fill(failed, NO_ANSWER).cpu())
        margins.append(margin(logits, y_chosen).masked_fill(failed, -torch.inf).cpu())
    return torch.cat(labels).numpy(), torch.cat(margins).numpy()


def _answers(defence: Defence, x: Tensor, samples: Sequence[Any], clean: Tensor | None) -> Tensor:
    """Logits float32 [draws, G, K, classes] of x [G, K, ...] under G samples of each draw.

    They are finite without ``clean``; with it, NaN where the defence raises at ``x`` and not at ``clean``.
    """
    groups, k = x.shape[:2]
    draws = len(samples) // groups
    # Always a copy: a defence may write into what it is given.
    repeated = x.repeat(draws, *[1] * (x.ndim - 1))
    independent = not defence.randomised and not defence.batch_dependent

    def ask(inputs: Tensor, chosen: Sequence[Any]) -> Tensor:
        return logits_grouped(defence, inputs, chosen)

    logits = answers_or_nan(ask, repeated, samples, clean, independent=independent)
    check_answer(logits, len(samples), k, finite=clean is None)
    return logits.float().view(draws, groups, k, -1)


def check_answer(logits: Tensor, groups: int, k: int, *, finite: bool = True) -> None:
    """Raises InvalidAnswer unless ``logits`` is [groups, k, classes], and ``finite`` where it has to be."""
    if logits.ndim != 3 or logits.shape[:2] != (groups, k):
        raise InvalidAnswer(f"expected logits of shape ({groups}, {k}, classes), got {tuple(logits.shape)}")
    if finite and not torch.isfinite(logits).all():
        raise InvalidAnswer("expected finite logits, got NaN or infinite ones")
