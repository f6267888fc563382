"""A weakness that no gradient points to: a step along a flat direction turns the answer around.

The point of the binarization test (arXiv 2206.13991): an attack that follows gradients may miss adversarial
examples that are there by construction and that random search finds.

The score is a linear model's with margins above eps. A second pattern v, orthogonal to the model's, is
watched: where the mean of v (x - 0.5) exceeds a threshold, in either direction, the score changes its sign.
That step has no slope.

Truth: images are flat along v, so the perturbation eps v moves that mean from 0 to eps, above the threshold,
and the score not at all: every input falls, robust accuracy is 0%. Random signs of size eps move it by eps /
8 times a standard normal number, nearly; with the threshold at 1.5 of these, 13% of random sign perturbations
succeed, and a search of a hundred finds one for every input. Nothing is random and inputs are answered one by
one.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import (
    PIXELS,
    LinearModel,
    along,
    pattern,
    planted_margins,
    spread,
    two_logits,
)


class HiddenDirection:
    """Answers by ``model``, and the other way round where ``watched`` exceeds ``threshold`` in size."""

    name = "hidden-direction"
    randomised = False
    batch_dependent = False

    def __init__(self, model: LinearModel, watched: LinearModel, threshold: float):
        self.model = model
        self.watched = watched
        self.threshold = threshold
        self.base: nn.Module | None = model

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        score = self.model.gain * self.model.score(x)
        return two_logits(torch.where(self.watched.score(x).abs() > self.threshold, -score, score))


def known(n: int = 640, eps: float = 0.1) -> Known:
    seen, hidden = pattern(7), pattern(28)
    x, y = planted_margins(spread(1.3 * eps, 1.8 * eps, n), seen, flat_along=[hidden])
    defence = HiddenDirection(along(seen), along(hidden), threshold=1.5 * eps / PIXELS**0.5)
    with torch.no_grad():
        clean = (defence.logits(x, None).argmax(1) == y).double().mean().item()
        fooled = (defence.logits((x + eps * hidden).clamp(0, 1), None).argmax(1) != y).double().mean().item()
    return Known(defence, x, y, 128, exactly(clean), lambda threat: exactly(1 - fooled))
