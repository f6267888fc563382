"""The interface of a target: what attacks may query."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class Oracle(Protocol):
    """Answers G batches of K inputs; each batch is answered jointly under one draw of the randomness.

    Attributes:
        randomised: whether two draws may give different answers. If False, estimators query once instead of
            averaging.
        independent: whether the answer to an input depends on that input alone: neither on a draw nor on
            co-batched inputs.

    Optional: ``reject``, the index of the class by which the target rejects an input.

    Optional: ``coupled``, whether an answer depends on the other inputs of its batch; a target that does not
    say is taken to be coupled unless it is independent.
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
