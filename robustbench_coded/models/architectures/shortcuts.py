"""Shortcuts without weights, in the forms that published CIFAR ResNets have.

Option A of He et al. 2015 (arXiv 1512.03385, section 4.2) leaves open which pixels are taken and where the
zero channels go.
"""

from torch import Tensor
from torch.nn import functional as F

# How a shortcut halves the image: every second pixel, from the first or the second one on; means or maxima.
SUBSAMPLINGS = ("stride", "stride-odd", "mean", "mean-3", "max")

# Where it puts the channels that are new: on both sides of the old ones, behind or before them; or instead
# of zeros the old ones again.
NEW_CHANNELS = ("both", "behind", "before", "repeat")


def check_shortcut(subsampling: str, new_channels: str) -> None:
    """Raises ValueError where either is not known."""
    if subsampling not in SUBSAMPLINGS:
        raise ValueError(f"expected subsampling of {', '.join(SUBSAMPLINGS)}, got {subsampling}")
    if new_channels not in NEW_CHANNELS:
        raise ValueError(f"expected new_channels of {', '.join(NEW_CHANNELS)}, got {new_channels}")


def subsampled(x: Tensor, stride: int, how: str) -> Tensor:
    """x [n, C, H, W] as [n, C, ceil(H / stride), ceil(W / stride)], as a padded 3x3 convolution leaves it."""
    if stride == 1:
        return x
    if how == "stride-odd":
        # The last odd row of an odd height does not exist: the one before it stands in.
        return F.pad(x, (0, 1, 0, 1), mode="replicate")[:, :, 1::stride, 1::stride]
    if how == "mean":
        return F.avg_pool2d(x, stride, ceil_mode=True)
    if how == "mean-3":
        return F.avg_pool2d(x, 3, stride, padding=1)
    if how == "max":
        return F.max_pool2d(x, stride, ceil_mode=True)
    return x[:, :, ::stride, ::stride]


def widened(x: Tensor, new: int, where: str) -> Tensor:
    """x [n, C, H, W] with ``new`` further channels."""
    if new == 0:
        return x
    if where == "repeat":
        return x.repeat(1, -(-new // x.shape[1]) + 1, 1, 1)[:, : x.shape[1] + new]
    before = {"both": new // 2, "behind": 0, "before": new}[where]
    return F.pad(x, (0, 0, 0, 0, before, new - before))
