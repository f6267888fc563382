"""Threads for small networks: several wait for each other longer than each of them computes."""

from contextlib import AbstractContextManager

from robustbench_coded.threads import torch_threads

SMALL = 2_000_000  # multiplications for one image


def few_threads(multiplications: int) -> AbstractContextManager[None]:
    """One thread of torch's while a network answers, if an image takes it fewer than ``SMALL``."""
    return torch_threads(1 if multiplications < SMALL else None)
