"""Threads for small networks: several wait for each other longer than each of them computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2_000_000  # multiplications for one image


@contextmanager
def few_threads(multiplications: int) -> Iterator[None]:
    """One thread of torch's while a network answers, if an image takes it fewer than ``SMALL``."""
    before = torch.get_num_threads()
    if multiplications < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
