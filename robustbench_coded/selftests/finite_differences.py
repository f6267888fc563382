"""Do the gradients that autograd returns belong to the answers? Directional derivatives at an attack's iterates.

Central differences of the margin in float32 on the very object that is attacked: a copy in float64 would be
another object. The draw is held fixed. Two directions: uphill, and random signs, which also see the slope of
inputs that the gradient leaves out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene, gap, runner_up
from robustbench_coded.selftests.walk import Walk

NAME = "finite differences"
SMALL, STEP = 1 / 64, 1 / 4  # of eps: where a network is nearly linear; and a step of an attack
ROUNDING = 2e-6  # of the largest logit: what float32 leaves uncertain in one answer
MEASURABLE = 10.0  # times the rounding that a difference must be to count
MISMATCH = 0.5  # relative disagreement of one difference that counts as a mismatch
TOLERATED = 0.25  # share of mismatches


def finite_differences(scene: Scene, path: Walk) -> SelfTest:
    """Fails where analytic and measured differences disagree, both at SMALL and at STEP times eps.

    The second scale is for honest steps in the answers, such as rounding with the gradient of the identity:
    such a gradient is right about moves of the size that attacks make.
    """
    figures: dict[str, float] = {}
    for name, scale in (("small", SMALL), ("step", STEP)):
        mismatches = _mismatches(scene, path, scale)
        if not len(mismatches):
            return not_applicable(NAME, "The answers are too flat for differences to be measured.")
        share = figures[f"mismatch_{name}"] = float(mismatches.mean())
        if share <= TOLERATED:
            break
    finding = (
        f"Gradients and finite differences over eps/{1 / scale:g} disagree in {share:.1%} of "
        f"{len(mismatches)} comparisons along a short attack."
    )
    return judged(NAME, share <= TOLERATED, finding, **figures)


def _mismatches(scene: Scene, path: Walk, scale: float) -> Tensor:
    """0 or 1 for every direction, iterate and unit whose difference can be measured."""
    found = []
    for at in (1, len(path.points) - 1):
        found.append(_at(scene, path.points[at], path.draws, scale * scene.budget.eps))
    return torch.cat(found)


def _at(scene: Scene, point: Tensor, draws: Sequence[object], h: float) -> Tensor:
    # Half a difference inside the box, so that both ends are images.
    inside = point.clamp(min(h, 0.5), max(1 - h, 0.5))
    leaf, logits = scene.differentiable(inside, draws)
    other = runner_up(logits, scene.y)
    gradient = scene.gradient(gap(logits, scene.y, other), leaf)
    floor = MEASURABLE * ROUNDING * float(logits.detach().abs().max()) * scene.x.shape[1] ** 0.5
    found = []
    for direction in (torch.nan_to_num(gradient).sign(), scene.random_signs()):
        ends = [
            gap(scene.answers(inside + side * h * direction, draws), scene.y, other) for side in (1.0, -1.0)
        ]
        measured = scene.per_unit((ends[0] - ends[1]) / 2)
        analytic = scene.per_unit(gradient * direction * h)
        # In a random direction slopes may cancel: a difference is compared with what they are worth.
        worth = scene.per_unit((gradient * direction * h).square()).sqrt()
        larger = torch.maximum(measured.abs(), torch.maximum(analytic.abs(), worth))
        # NaN compares false with everything; it must count as a mismatch.
        close = (measured - analytic).abs() <= MISMATCH * larger
        found.append(~close[~(larger < floor)])
    return torch.cat(found).double().cpu()
