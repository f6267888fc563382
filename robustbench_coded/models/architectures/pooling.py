"""From the last maps to one vector an image."""

from torch import Tensor


def pooled(x: Tensor, how: str) -> Tensor:
    """x [n, C, H, W] as [n, C]: the ``mean`` or the ``max`` over all pixels.

    Raises:
        ValueError: another word.
    """
    if how == "mean":
        return x.mean((2, 3))
    if how == "max":
        return x.amax((2, 3))
    raise ValueError(f"expected pooling mean or max, got {how}")
