"""What can be asked of a target, whoever is behind it."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class Oracle(Protocol):
    """G batches of K inputs, each answered side by side under one draw of the target's randomness.

    Attributes:
        randomised: whether two draws may give different answers. Where False, the estimators ask once where
            they would otherwise average.
        independent: whether each input is answered by itself and always alike: neither randomised nor
            dependent on co-batched inputs.
    """

    randomised: bool
    independent: bool

    def draws(self, index: int) -> Sequence[Any]:
        """The attacker's ``index``-th draw, one for each of the G batches; the same for the same index."""

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """``[B, K, C, H, W]`` in [0, 1] -> ``[B, K, classes]``, differentiable.

        B is ``len(draws)``: any selection of the G batches, and one batch may appear many times.
        """

    def images(self, x: Tensor) -> int:
        """How many images one forward of ``x`` ``[B, K, C, H, W]`` sends through the network, in total."""
