"""Numbers of examples, shaped to meet the values of their inputs."""

from torch import Tensor


def wide(per_example: Tensor) -> Tensor:
    """``[G, K]`` as ``[G, K, 1, 1, 1]``."""
    return per_example[:, :, None, None, None]
