"""What an attack sees of its target: the loss of each example, its gradient, and their cost."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from attacks.losses import Loss


class Estimate(NamedTuple):
    """Attributes:
    loss: ``[G, K]``, detached; what each slot maximises (``attacks.objective``).
    grad: like x; by default of the loss summed over each batch. None if only a value was asked.
    logits: ``[G, K, classes]``, averaged over the draws, detached.
    """

    loss: Tensor
    grad: Tensor | None
    logits: Tensor


class Estimator(Protocol):
    """A target as an attacker with certain knowledge sees it; x ``[G, K, C, H, W]``, y ``[G, K]`` int64.

    Attributes:
        forwards: images sent through a network so far.
        backwards: images differentiated so far.
        per_example: whether an example's loss depends on that example alone. If it does not, the largest loss
            seen is partly due to a lucky draw or to co-batched inputs.
        coupled: whether an answer may depend on the other inputs of its batch, so that results must be
            compared batch by batch.
        exhausted: whether the query budget is used up: the attack then ends with what it has.
    """

    forwards: int
    backwards: int

    @property
    def per_example(self) -> bool: ...

    @property
    def coupled(self) -> bool: ...

    @property
    def exhausted(self) -> bool: ...

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        """Loss and gradient from the same forwards.

        Raises:
            ValueError: a loss of another shape than ``[G, K]``, or NaN.
        """

    def value(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        """The loss alone: forward only, ``grad`` is None."""

    def compare(self, xs: Sequence[Tensor], y: Tensor, loss: Loss) -> list[Estimate]:
        """A value for each of ``xs`` under the same draws, so that their differences carry less noise."""
