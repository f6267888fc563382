"""Does the base model that a defence names answer like it, or is another network underneath?"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_coded.evaluation.selftests.scene import (
    STEP,
    STEPS,
    Scene,
    SelfTest,
    Walk,
    gap,
    judged,
    not_applicable,
    runner_up,
)
from robustbench_coded.schema.words import BASE_SELF_TEST

ALIKE = 0.5  # agreement with its base below which a defence does not answer like it
FOLLOWS = (
    0.9  # share of the checkpoint's errors that a defence with no base must repeat to be that checkpoint
)
ENOUGH = 8  # errors of the checkpoint, for that to mean anything
WIDER = (1, 2, 4, 8)  # times eps: a robust checkpoint makes too few errors within eps, and any error serves
# Mean cosine between its gradients and the checkpoint's, along the walk. Decoys had 0.1 to 0.6 on digits,
# clipped, rescaled, quantised and slightly noisy versions of a network 0.7 to 1.
OWN_SLOPE = 0.7
CHANCE = 0.01  # of a sign test: how often a base as good as the checkpoint may be called worse

Network = Callable[[Tensor], Tensor]  # [B, C, H, W] -> [B, classes]


def base_agrees(scene: Scene, path: Walk, base: Network | None, checkpoint: Network) -> SelfTest:
    """Compares predictions at clean inputs, random corners, and inputs that fool the checkpoint.

    A defence that names no base may well be a version of the checkpoint: its perturbed inputs are submitted
    anyway. It hides the checkpoint where it answers like it and its gradients are another's.

    Args:
        base: what the defence names as its base model, if anything.
        checkpoint: the model that the defence was put around.
    """
    corner = scene.budget.around(scene.x).random_sign(scene.generators)
    fooling = _fooling(scene, checkpoint)
    inputs = (scene.x, corner, fooling)
    own = torch.stack([scene.answers(x, path.draws).argmax(-1) for x in inputs])
    theirs = torch.stack([_predicted(scene, checkpoint, x) for x in inputs])
    fooled = theirs[2] != scene.y
    figures = {
        "checkpoint": _share(own[:2] == theirs[:2]),
        "checkpoint_errors": _share(own[2][fooled] == theirs[2][fooled]),
    }
    told = (
        f"it answers like the checkpoint at {figures['checkpoint']:.0%} of clean and noisy inputs and "
        f"repeats {figures['checkpoint_errors']:.0%} of {int(fooled.sum())} errors found on the checkpoint"
    )
    if base is None:
        if int(fooled.sum()) < ENOUGH:
            return not_applicable(BASE_SELF_TEST, f"The defence names no base model; {told}.", **figures)
        follows = figures["checkpoint_errors"] >= FOLLOWS and figures["checkpoint"] >= FOLLOWS
        cosine = _along(scene, path, checkpoint)
        if cosine is not None:
            figures["gradients"] = cosine
            told += f"; its gradients have cosine {cosine:.2f} with the checkpoint's"
        hidden = follows and cosine is not None and cosine < OWN_SLOPE
        return judged(BASE_SELF_TEST, not hidden, f"The defence names no base model; {told}.", **figures)
    named = torch.stack([_predicted(scene, base, x) for x in inputs])
    figures["base"] = _share(own[:2] == named[:2])
    worse, better = (
        int(((own == theirs) & (own != named)).sum()),
        int(((own == named) & (own != theirs)).sum()),
    )
    other = _sign_test(worse, better) < CHANCE
    finding = f"The defence answers like its base model at {figures['base']:.0%} of clean and noisy inputs"
    if worse or better:
        finding += f"; {told}"
    return judged(BASE_SELF_TEST, figures["base"] >= ALIKE and not other, f"{finding}.", **figures)


def _along(scene: Scene, path: Walk, network: Network) -> float | None:
    """Mean cosine between the walk's gradients and those of ``network``; None where most are unusable."""
    cosines = []
    for at, other, gradient in zip(path.points, path.others, path.gradients, strict=False):
        theirs = margin_gradient(scene, at, network, other)
        own = gradient.flatten(2)
        usable = own.isfinite().all(-1) & (own != 0).any(-1)
        cosines.append(torch.cosine_similarity(own, theirs.flatten(2), -1)[usable])
    found = torch.cat(cosines).cpu().double()
    return float(found.mean()) if 2 * len(found) >= len(cosines) * scene.examples else None


def margin_gradient(scene: Scene, at: Tensor, network: Network, other: Tensor | None = None) -> Tensor:
    """The gradient of the margin of ``network`` towards ``other``, else the runner-up, like ``at``."""
    with torch.enable_grad():
        leaf = at.detach().clone().requires_grad_()
        logits = network(leaf.flatten(0, 1)).unflatten(0, scene.y.shape)
        towards = own = runner_up(logits, scene.y)
        if (
            other is not None
        ):  # it may be the class by which a defence rejects, which the network does not have
            towards = torch.where(other < logits.shape[-1], other, own)
        (grad,) = torch.autograd.grad(gap(logits, scene.y, towards).sum(), leaf)
    scene.forwards += scene.examples
    scene.backwards += scene.examples
    return grad


def _fooling(scene: Scene, network: Network) -> Tensor:
    """Inputs moved by a short attack on ``network``, like ``scene.x``, far enough for `ENOUGH` errors."""
    at = scene.x
    for factor in WIDER:
        widest = 1.0 if scene.budget.norm == "linf" and scene.budget.eps_space == "pixel" else math.inf
        budget = replace(scene.budget, eps=min(factor * scene.budget.eps, widest))
        ball, at = budget.around(scene.x), scene.x.clone()
        for _ in range(STEPS):
            grad = torch.nan_to_num(margin_gradient(scene, at, network))
            at = ball.step_(at.clone(), grad, STEP * budget.eps)
        if int((_predicted(scene, network, at) != scene.y).sum()) >= ENOUGH:
            break
    return at


@torch.no_grad()
def _predicted(scene: Scene, network: Network, x: Tensor) -> Tensor:
    scene.forwards += scene.examples
    return network(x.flatten(0, 1)).argmax(-1).view_as(scene.y)


def _share(alike: Tensor) -> float:
    return float(alike.cpu().double().mean()) if alike.numel() else 0.0


def _sign_test(more: int, less: int) -> float:
    """Chance of at least ``more`` heads in ``more + less`` fair coins."""
    n = more + less
    return sum(math.comb(n, heads) for heads in range(more, n + 1)) / 2**n
