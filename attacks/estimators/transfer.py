"""An attacker who queries the base model instead of the defence."""

from collections.abc import Callable, Sequence

from torch import Tensor

from attacks.estimators.averaging import AveragingEstimator, DrawSet
from attacks.objective import Objective


class Transfer(AveragingEstimator):
    """Gradients of a plain model, which gets the G batches of K inputs as one batch of G K.

    Args:
        model: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        *,
        max_images: int = 512,
        objective: Objective | None = None,
    ):
        super().__init__(PlainModel(model), max_images=max_images, objective=objective)

    def draw_sets(self) -> Sequence[DrawSet]:
        return [()]


class PlainModel:
    """A model as a deterministic, per-example oracle."""

    randomised = False
    independent = True
    coupled = False

    def __init__(self, model: Callable[[Tensor], Tensor]):
        self.model = model

    def draws(self, index: int) -> DrawSet:
        return ()

    def logits(self, x: Tensor, draws: DrawSet) -> Tensor:
        # A copy: a model may answer in one buffer again and again.
        return self.model(x.flatten(0, 1)).clone().unflatten(0, x.shape[:2])

    def images(self, x: Tensor) -> int:
        return x.shape[0] * x.shape[1]
