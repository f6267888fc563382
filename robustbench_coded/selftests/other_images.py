"""Is a defence as robust on images that are not evaluated? One that stores the evaluated ones is not."""

from math import comb

import torch
from torch import Tensor

from robustbench_coded.selftests.base_agrees import Network, margin_gradient
from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import STEP, STEPS, walk

NAME = "images not evaluated"
FEWEST = 16  # images of either kind that are classified correctly, for a share of them to mean anything
# Of Fisher's exact test: how often images of one kind stand so much more often than as many others like them.
CHANCE = 0.001


def other_images(scene: Scene, other: Scene | None, network: Network | None) -> SelfTest:
    """Compares which share of the correctly classified images stands a short attack, here and elsewhere.

    Args:
        scene: evaluated images. other: images that are not evaluated, of the same kind; None where there are
            none.
        network: whose perturbed inputs are submitted, too; None where there is none.
    """
    if other is None:
        return not_applicable(NAME, "All images are evaluated.")
    (stood, n), (others_stood, others) = _standing(scene, network), _standing(other, network)
    if min(n, others) < FEWEST:
        return not_applicable(NAME, f"Too few are classified correctly: {n} and {others}.")
    finding = (
        f"Of the evaluated images that are classified correctly {stood / n:.0%} of {n} stand a short attack, "
        f"of others {others_stood / others:.0%} of {others}."
    )
    passed = _more_by_chance(stood, n, others_stood, others) >= CHANCE
    return judged(NAME, passed, finding, evaluated=stood / n, others=others_stood / others)


def _standing(scene: Scene, network: Network | None) -> tuple[int, int]:
    """How many images stand, and how many are classified correctly to begin with."""
    path = walk(scene)
    clean = scene.answers(scene.x, path.draws).argmax(-1) == scene.y
    stands = clean.clone()
    answers = list(path.logits)
    if network is not None:
        answers.append(scene.answers(_fooling(scene, network), path.draws))
    for logits in answers:
        predicted = logits.argmax(-1)
        rejected = predicted == getattr(scene.oracle, "reject", None)
        stands &= (predicted == scene.y) | rejected
    return int(stands.sum()), int(clean.sum())


def _fooling(scene: Scene, network: Network) -> Tensor:
    """Inputs moved by the same steps along the margin of ``network``."""
    ball, at = scene.budget.around(scene.x), scene.x
    for _ in range(STEPS):
        grad = torch.nan_to_num(margin_gradient(scene, at, network))
        at = ball.step_(at.clone(), grad, STEP * scene.budget.eps)
    return at


def _more_by_chance(stood: int, n: int, others_stood: int, others: int) -> float:
    """Chance that at least ``stood`` of those that stand are among the first n, if n + others are alike."""
    standing, total = stood + others_stood, n + others
    ways = sum(comb(n, i) * comb(others, standing - i) for i in range(stood, min(n, standing) + 1))
    return ways / comb(total, standing)
