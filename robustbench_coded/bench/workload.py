"""What the contenders run on: one model, prepared in several ways, and one batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.naming import parse
from attacks.perturbation_budget import PerturbationBudget
from attacks.registry import attack_for, estimator_for
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.tf32 import tf32

EPS = 8 / 255
SMALL_K = 8


@dataclass(frozen=True)
class Workload:
    """Attributes:
    model: the original.
    gradients: copies that attacks differentiate, by their name in the report: ``float32``, ``bfloat16`` ...
    x: images [n, C, H, W] in [0, 1], on the model's device; n is K, a multiple of ``SMALL_K``.
    steps: of every PGD.
    """

    model: PixelModel
    gradients: dict[str, PixelModel]
    x: Tensor
    steps: int

    @property
    def k(self) -> int:
        return len(self.x)

    @property
    def device(self) -> torch.device:
        return self.x.device

    def labels(self, x: Tensor) -> Tensor:
        """The model's own predictions: an attack that skips what is misclassified then skips nothing."""
        with torch.no_grad():
            return self.model(x).argmax(1)

    def batch(self, n: int) -> Tensor:
        """n of the images, repeated where there are fewer."""
        return self.x[torch.arange(n, device=self.device) % len(self.x)]


def attack(workload: Workload, defence: Defence, x: Tensor, name: str) -> Callable[[], Tensor]:
    """An attack as an evaluation runs it on G batches ``x`` [G, K, C, H, W], without early stops."""
    groups, k = x.shape[:2]
    y = workload.labels(x.flatten(0, 1)).unflatten(0, (groups, k))
    parsed, budget = parse(name), PerturbationBudget("linf", EPS)

    def run() -> Tensor:
        target = Target(defence, k, 0, range(groups))
        with tf32(True):
            estimator = estimator_for(parsed, target, max_images=target.images(x))
            generators = [stream(0, batch, "start") for batch in range(groups)]
            return attack_for(parsed).perturb(x, y, estimator, budget, generators)

    return run
