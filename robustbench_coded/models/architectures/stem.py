"""What a 3x3 stem does with images that are larger than CIFAR's; its weights are the same in each form."""

from torch import Tensor
from torch.nn import functional as F

STEMS = ("plain", "stride-2", "max-pool")


def stem_stride(stem: str) -> int:
    """The stride of the stem's convolution.

    Raises:
        ValueError: no such stem.
    """
    if stem not in STEMS:
        raise ValueError(f"expected a stem of {', '.join(STEMS)}, got {stem}")
    return 2 if stem == "stride-2" else 1


def enter(x: Tensor, stem: str) -> Tensor:
    """x [n, C, H, W] after the stem's convolution and activation, as the first stage takes it."""
    return F.max_pool2d(x, 3, 2, padding=1) if stem == "max-pool" else x
