"""Do gradients under different draws agree along an attack's path? (Indicator 2 of arXiv 2106.09947.)"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene, gap
from robustbench_coded.selftests.walk import Walk

NAME = "gradients agree along the path"
AVERAGED = 10  # draws that the default attacks average
USEFUL = 0.5  # cosine between the averaged gradient and that over all draws


def gradients_agree(scene: Scene, path: Walk) -> SelfTest:
    """Fails where the mean of AVERAGED gradients has a cosine below USEFUL with that over all draws.

    Where the gradients in two draws have mean cosine c, the mean over M draws has cosine
    sqrt(M c / (1 + (M - 1) c)) with that over all draws, and a signal-to-noise ratio of c / (1 - c) a draw.
    """
    if not scene.oracle.randomised:
        return not_applicable(NAME, "The defence is deterministic: there is one gradient.")
    cosines = []
    for number, at in enumerate((0, len(path.gradients) - 1)):
        pair = []
        for draw in (1, 2):
            leaf, logits = scene.differentiable(path.points[at], scene.draws(2 * number + draw))
            pair.append(scene.gradient(gap(logits, scene.y, path.others[at]), leaf))
        cosines.append(_cosines(scene, *pair))
    cosine = float(torch.cat(cosines).mean())
    reached = math.sqrt(AVERAGED * cosine / (1 + (AVERAGED - 1) * cosine)) if cosine > 0 else 0.0
    finding = (
        f"Along a short attack gradients in two draws have cosine {cosine:.2f}; the mean over "
        f"{AVERAGED} draws has {reached:.2f} with the mean over all draws."
    )
    return judged(NAME, reached >= USEFUL, finding, cosine=cosine, cosine_of_mean=reached)


def _cosines(scene: Scene, first: Tensor, second: Tensor) -> Tensor:
    """Of each input, or of each batch where inputs are answered together; 0 where a gradient is unusable."""
    start = 1 if scene.batch_dependent else 2
    one, other = (g.flatten(start).flatten(0, start - 1) for g in (first, second))
    return torch.nan_to_num(cosine_similarity(one, other, dim=-1).double()).cpu()
