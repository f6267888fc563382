"""Threads of torch, and memory that the process keeps for its next tensors."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """``count`` threads, and afterwards as many as before; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SMALL = 2_000_000  # multiplications for one image


def few_threads(multiplications: int) -> AbstractContextManager[None]:
    """One thread of torch's while a network answers, if an image takes it fewer than ``SMALL``."""
    return torch_threads(1 if multiplications < SMALL else None)


# glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Lets this process keep freed memory for its next tensors; elsewhere than on Linux with glibc, nothing.

    By default glibc gives the memory of a forward pass back to the system and asks for it again at the next
    one, which then clears every page: of small images that takes a quarter of an attack's time, and half of
    scoring's. What the process holds at its peak stays about the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, NEVER)
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)


@contextmanager
def no_collections() -> Iterator[None]:
    """Inside, Python does not look for cycles of garbage, which takes 0.1 s each time once torch is loaded.

    Networks are built by the dozen here, and go without that as soon as they are not needed.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
