"""What every defence offers: answer a batch, given one draw of its randomness."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Draw = Any  # one sample of a defence's randomness for one batch; for RCI the permutation of the slots


@runtime_checkable
class Defence(Protocol):
    """A way of answering a batch of queries.

    Attributes:
        name: as printed in tables.
        randomised: whether two draws may give different answers.
        batch_dependent: whether an input's answer may depend on its co-batched inputs.
        base: the model underneath, for transfer attacks; None where there is none.

    Optional, looked for where they matter: ``logits_grouped(x, draws)``, ``images(k)``; ``reset()`` and
    ``fit(x)``, called before every batch that is answered (``per_batch``); ``abstain``, the index of the
    class by which it rejects an input (``reject_class``).
    """

    name: str
    randomised: bool
    batch_dependent: bool
    base: torch.nn.Module | None

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        """Draws the randomness for a batch of ``k`` inputs from a CPU generator; None if not randomised."""

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """Answers ``x`` (k, channels, height, width) in [0, 1] with (k, classes) logits.

        Differentiable in ``x``; uses no global random generator.
        """


def reject_class(defence: Any) -> int | None:
    """The index among its logits by which a defence rejects an input; None where it never does."""
    return getattr(defence, "abstain", None)


def logits_grouped(defence: Defence, x: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Answers G batches of K inputs, ``x`` (G, K, C, H, W) with one draw each -> (G, K, classes).

    Takes the defence's own ``logits_grouped`` where it has one, else answers batch by batch.
    """
    grouped = getattr(defence, "logits_grouped", None)
    if grouped is not None:
        return grouped(x, draws)
    return torch.stack([defence.logits(batch, draw) for batch, draw in zip(x, draws, strict=True)])
