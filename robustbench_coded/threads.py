"""Threads of torch, their subnormal numbers, and memory that the process keeps. Imports no torch.

GNU's malloc fetches the memory of a large tensor from the system and hands it back when the tensor goes.
The next step of an attack needs as much again, and the system clears every page of it first: up to a sixth
of the processor time of a ResNet-20's gradients. `keep_memory` keeps it.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """``count`` threads, and afterwards as many as before; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SMALL = 2_000_000  # multiplications for one image


def few_threads(multiplications: int) -> AbstractContextManager[None]:
    """One thread of torch's while a network answers, if an image takes it fewer than ``SMALL``.

    Of so small networks, more threads mostly wait for each other: beside another busy program the published
    MNIST networks take ten times as long to recognise.
    """
    return torch_threads(1 if multiplications < SMALL else None)


PAUSE_HARD = 2  # of OpenMP: ends the threads that it keeps


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Numbers below 1.2e-38 are 0 on every CPU thread of torch's, and afterwards what they were before.

    Many processors take several times as long for them, and a network trained with weight decay may be
    full of them. A processor that cannot flush them computes as always.
    """
    before = flushes_subnormals()
    if not before:
        flush_subnormals(True)
    try:
        yield
    finally:
        if not before:
            flush_subnormals(False)


def flushes_subnormals() -> bool:
    """True if this thread takes subnormal numbers for 0."""
    import torch

    return bool(torch.full((), 1e-40) * 1 == 0)


def flush_subnormals(on: bool) -> None:
    """In this thread, and in those that OpenMP starts for it from now on, which begin as it is."""
    import torch

    torch.set_flush_denormal(on)
    try:
        ctypes.CDLL(None).omp_pause_resource_all(PAUSE_HARD)
    except (AttributeError, OSError, TypeError):  # another system's library, or an old one
        return


RETAINED = 1 << 30  # bytes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_BY_NAME = {"MALLOC_TRIM_THRESHOLD_": _TRIM_THRESHOLD, "MALLOC_MMAP_THRESHOLD_": _MMAP_THRESHOLD}
_MEMORY_BY_THE_USER = (*_BY_NAME, "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_memory() -> None:
    """For this process and those it starts, unless the environment says otherwise or malloc is not GNU's."""
    if any(name in os.environ for name in _MEMORY_BY_THE_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system's library
        return
    for name, option in _BY_NAME.items():
        mallopt(option, RETAINED)
        os.environ[name] = str(RETAINED)
