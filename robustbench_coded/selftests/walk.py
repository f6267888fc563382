"""A short attack on the scene, whose iterates the other self-tests examine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_coded.selftests.scene import Scene, gap, runner_up

STEPS = 4
STEP = 0.5  # of eps: four steps reach every corner of the ball from anywhere in it


@dataclass(frozen=True)
class Walk:
    """PGD on the margin under one fixed draw, from a random start.

    Attributes:
        draws: the draw of each batch.
        points: STEPS + 1 iterates [G, K, C, H, W].
        logits: their answers [G, K, classes].
        others: the runner-up class at each, int64 [G, K].
        gradients: of the summed margins at each but the last.
        cross_entropy: gradients of the summed cross-entropy at the same iterates.
    """

    draws: Sequence[Any]
    points: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
    others: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    cross_entropy: tuple[Tensor, ...]


def walk(scene: Scene) -> Walk:
    """Walks; costs STEPS + 1 forwards and 2 STEPS backwards of the scene."""
    ball = scene.budget.around(scene.x)
    draws = scene.draws(0)
    points, answers, others, gradients, entropies = [ball.uniform(scene.generators)], [], [], [], []
    for _ in range(STEPS):
        leaf, logits = scene.differentiable(points[-1], draws)
        other = runner_up(logits, scene.y)
        entropy = functional.cross_entropy(logits.flatten(0, 1), scene.y.flatten(), reduction="sum")
        entropies.append(scene.gradient(entropy, leaf, again=True))
        gradients.append(scene.gradient(gap(logits, scene.y, other), leaf))
        answers.append(logits.detach())
        others.append(other)
        usable = torch.nan_to_num(gradients[-1])
        points.append(ball.step_(points[-1].clone(), usable, STEP * scene.budget.eps))
    answers.append(scene.answers(points[-1], draws))
    others.append(runner_up(answers[-1], scene.y))
    return Walk(draws, tuple(points), tuple(answers), tuple(others), tuple(gradients), tuple(entropies))
