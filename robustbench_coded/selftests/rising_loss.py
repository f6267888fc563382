"""Do steps uphill raise the loss? Slopes that are right at a point can mislead larger moves of an attack."""

import torch

from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene, gap
from robustbench_coded.selftests.walk import Walk

NAME = "steps uphill"
KEPT = 0.1  # share of the rise promised by the gradient that must come true
CLEAR = 4.0  # standard errors by which a step uphill must beat a random one where less comes true


def rising_loss(scene: Scene, path: Walk) -> SelfTest:
    """Compares what the gradient promises of the walk's first step with what it brings, summed over inputs.

    Where eps is large against the bends of an honest network little of the promise comes true; then the step
    must at least bring clearly more than a random one of the same size.
    """
    start, moved = path.points[0], path.points[1] - path.points[0]
    before = gap(path.logits[0], scene.y, path.others[0])
    rise = torch.nan_to_num(gap(path.logits[1], scene.y, path.others[0]) - before).flatten().double()
    promised = float(torch.nan_to_num(path.gradients[0] * moved).sum())
    if promised <= 0:
        return not_applicable(NAME, "The gradients promise nothing.", promised=promised)
    kept = float(rise.sum()) / promised
    ball = scene.budget.around(scene.x)
    beside = ball.project_(start + scene.random_signs() * moved.abs())
    chance = gap(scene.answers(beside, path.draws), scene.y, path.others[0]) - before
    more = rise - torch.nan_to_num(chance).flatten().double()
    error = float(more.std()) / len(more) ** 0.5
    clear = float(more.mean()) / error if error > 0 else 0.0
    finding = (
        f"The first step of a short attack raises the margin by {kept:.0%} of what its gradient promises, "
        f"{clear:.1f} standard errors more than a random step."
    )
    passed = kept >= KEPT or (clear >= CLEAR and float(rise.mean()) > 0)
    return judged(NAME, passed, finding, kept=kept, clear=clear, rise=float(rise.mean()))
