"""TF32, the 10-bit mantissas in which tensor cores multiply float32 numbers, switched on and off."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ALLOWED = True  # a benchmark switches it off to time plain float32


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within it CUDA's convolutions and matrix products may, or may not, use TF32; a CPU does not care."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed and ALLOWED
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
