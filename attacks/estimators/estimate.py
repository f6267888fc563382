"""What every attack sees of its target: the loss of each example, its gradient, and what both cost."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from attacks.losses import Loss


class Estimate(NamedTuple):
    """Attributes:
    loss: ``[G, K]``, detached; what each slot's moves are to raise (``attacks.objective``).
    grad: like x; by default of the loss summed over each batch. None where only a value was asked.
    logits: ``[G, K, classes]``, averaged over the draws, detached.
    """

    loss: Tensor
    grad: Tensor | None
    logits: Tensor


class Estimator(Protocol):
    """A target seen through what the attacker knows; x is ``[G, K, C, H, W]``, y ``[G, K]`` int64.

    Attributes:
        forwards: images sent through a network so far.
        backwards: images differentiated so far.
        per_example: whether an example's loss follows from that example alone. Where it does not, the largest
            loss that an attack has seen is partly the luck of a draw, or owed to co-batched inputs.
        exhausted: whether the images that the attack may cost are used up: it ends with what it has.
    """

    forwards: int
    backwards: int

    @property
    def per_example(self) -> bool: ...

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
        """A value for each of ``xs`` under the same draws, so that chance cancels in their differences."""
