"""Do steps uphill raise the loss? Right slopes at a point can still mislead moves of the size attacks make."""

import torch

from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene, gap
from robustbench_coded.selftests.walk import Walk

NAME = "steps uphill"
KEPT = 0.1  # share of the rise promised by the gradient that must come true


def rising_loss(scene: Scene, path: Walk) -> SelfTest:
    """Compares what the gradients of the walk promise with what its first step brings.

    Summed over the inputs; a step that leaves the ball is projected, and the promise is that of the step as
    it was made.
    """
    promised = measured = 0.0
    for before in range(len(path.gradients)):
        moved = path.points[before + 1] - path.points[before]
        other = path.others[before]
        rise = gap(path.logits[before + 1], scene.y, other) - gap(path.logits[before], scene.y, other)
        promised += float(torch.nan_to_num(path.gradients[before] * moved).sum())
        measured += float(torch.nan_to_num(rise).sum())
        if before == 0:
            first = (promised, measured)
    figures = {"promised": promised / scene.examples, "rise": measured / scene.examples}
    if first[0] <= 0:
        return not_applicable(NAME, "The gradients promise nothing.", **figures)
    kept = first[1] / first[0]
    finding = f"The first step of a short attack raises the margin by {kept:.0%} of what its gradient promises."
    return judged(NAME, kept >= KEPT, finding, kept=kept, **figures)
