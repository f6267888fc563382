"""Is a perturbation found that is known to be there? After the binarisation test of arXiv 2206.13991.

Each input gets a binary classifier of its own on top of the defence: a linear readout of its logits (features
are out of reach behind a plug-in) that says 0 at the clean input and at points around it, and 1 at one random
corner of the ball. An attack with the defence's gradients that does not find what is there is too weak. The
draw is held fixed, so that what was planted stays where it is; where answers depend on the batch, all of its
inputs move together, and the corners of all of them are planted in one batch.
"""

import torch
from torch import Tensor

from robustbench_coded.selftests.scene import Scene, SelfTest, Walk, judged, not_applicable

PLANTED = "planted perturbations"
INNER = 5  # points that must answer 0 beside the clean input; fewer where there are few classes
STEPS = 6
STEP = 0.5  # of eps
FOUND = 0.75  # share of planted perturbations that must be found
EASY = 0.5  # share that random corners may find before the test says nothing
RESOLVED = 1e-4  # of the largest logit: what the planted corner must move by


def planted(scene: Scene, path: Walk) -> SelfTest:
    """Plants, attacks, and compares with random corners."""
    ball, draws, eps = scene.budget.around(scene.x), path.draws, scene.budget.eps
    clean = scene.answers(scene.x, draws)
    inner = min(INNER, clean.shape[-1] - 2)
    if inner < 1:
        return not_applicable(PLANTED, "Two classes leave no room for a planted direction.")
    corner = ball.random_sign(scene.generators)
    planted_at = scene.answers(corner, draws)
    others = [clean] + [scene.answers(ball.random_sign(scene.generators), draws) for _ in range(inner)]
    readout, there = _separate(planted_at, others)
    apart = float(there.cpu().double().mean())
    if apart < 0.5:
        return not_applicable(
            PLANTED,
            f"Logits tell a random corner from others at {apart:.0%} of the inputs only.",
        )

    def value(logits: Tensor) -> Tensor:
        """[G, K]: 0 at the planted corner, -1 at the other points; above -1/2 counts as found."""
        return ((logits - planted_at) * readout).sum(-1)

    control = _share(value(scene.answers(ball.random_sign(scene.generators), draws)) > -0.5, there)
    at = scene.x.clone()
    found = torch.zeros_like(there)
    for _ in range(STEPS):
        leaf, logits = scene.differentiable(at, draws)
        reached = value(logits)
        found |= reached.detach() > -0.5
        grad = scene.gradient(torch.where(there, reached, 0), leaf)
        at = ball.step_(at.clone(), torch.nan_to_num(grad), STEP * eps)
    found |= value(scene.answers(at, draws)) > -0.5
    share = _share(found, there)
    finding = (
        f"A {STEPS}-step attack finds {share:.1%} of {int(there.sum())} planted perturbations; random "
        f"corners find {control:.1%}."
    )
    figures = {"found": share, "random": control}
    if share >= FOUND and control > EASY:
        return not_applicable(PLANTED, finding, **figures)
    return judged(PLANTED, share >= FOUND, finding, **figures)


def _separate(planted_at: Tensor, others: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The shortest readout [G, K, classes] with 1 between the planted point and each other one, and where
    there is one, bool [G, K]."""
    differences = torch.stack([planted_at - other for other in others], dim=-2).cpu().double()
    ones = torch.ones(differences.shape[:-1], dtype=torch.double)
    readout = (torch.linalg.pinv(differences, rcond=1e-4) @ ones.unsqueeze(-1)).squeeze(-1)
    reached = (differences @ readout.unsqueeze(-1)).squeeze(-1)
    scale = float(planted_at.abs().max())
    there = (reached > 0.9).all(-1) & (differences.abs().amax((-1, -2)) > RESOLVED * scale)
    return readout.to(planted_at), there.to(planted_at.device)


def _share(found: Tensor, there: Tensor) -> float:
    return float((found & there).sum()) / max(1, int(there.sum()))
