"""What an attack is told where a gradient was asked for and no graph leads back to the input."""

import torch
from torch import Tensor


class NoGraph(RuntimeError):
    """A gradient was asked for, and the target's answer has no graph back to its input."""

    def __init__(self) -> None:
        super().__init__(
            "the target's answer has no graph back to its input; relaxed- before an attack's name "
            "smooths operators that cut it, and square-1000 needs no gradient"
        )


def gradient(of: Tensor, x: Tensor, *, again: bool = False) -> Tensor:
    """The gradient of the number ``of``, like the leaf ``x``.

    Args:
        again: whether the same graph is differentiated once more.
    Raises:
        NoGraph: nothing connects them. A graph that leads to something else (parameters) is none.
    """
    if not of.requires_grad:
        raise NoGraph
    (grad,) = torch.autograd.grad(of, x, retain_graph=again, allow_unused=True)
    if grad is None:
        raise NoGraph
    return grad
