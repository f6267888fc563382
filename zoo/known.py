"""What is known about a defence of the zoo: its data, and how robust it is under each threat model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from robustbench_coded.defences.protocol import Defence


@dataclass(frozen=True)
class Truth:
    """Robust accuracy under the best possible attack, as a fraction: between ``low`` and ``high``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"expected 0 <= low <= high <= 1, got {self.low}, {self.high}")


@dataclass(frozen=True)
class Known:
    """A defence, the data it is judged on, and the answer.

    Attributes:
        x, y: examples float32 [n, 1, 8, 8] in [0, 1], every pixel a multiple of 1/255 (or 1/16 for digits),
            and labels int64 [n]. Batches are runs of ``k`` examples in this order.
        k: size of the batches; it means nothing where answers do not depend on the batch.
        clean: accuracy on unperturbed inputs, averaged over draws.
        truth: threat model -> robust accuracy at the entry's budget, averaged over draws.
        checkpoint: the network that the defence is put around, evaluated beside it as ``standard``; None for
            the base that the defence names, if it names one.
    """

    defence: Defence
    x: Tensor
    y: Tensor
    clean: Truth
    truth: Callable[[str], Truth]
    k: int = 128
    checkpoint: nn.Module | None = None

    @property
    def beside(self) -> nn.Module | None:
        """The network that ``--ckpt`` would name: what ``standard`` answers with; None for none."""
        return self.checkpoint if self.checkpoint is not None else self.defence.base


def exactly(value: float) -> Truth:
    """A value that is known but for rounding."""
    return Truth(value, value)


def everywhere(truth: Truth) -> Callable[[str], Truth]:
    """The same truth under every threat model: where nothing is random and inputs are answered one by one."""
    return lambda threat: truth


def everywhere_later(truth: Callable[[], Truth]) -> Callable[[str], Truth]:
    """The same, worked out when it is first asked for: where that takes seconds."""
    cached = cache(truth)
    return lambda threat: cached()
