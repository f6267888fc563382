"""Memory that tensors give back, kept for the next ones.

GNU's malloc fetches the memory of a large tensor from the system and hands it back when the tensor goes. The
next step of an attack needs as much again, and the system clears every page of it first: up to a sixth of the
processor time of a ResNet-20's gradients.
"""

import ctypes
import os

KEPT = 1 << 30  # bytes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_BY_NAME = {"MALLOC_TRIM_THRESHOLD_": _TRIM_THRESHOLD, "MALLOC_MMAP_THRESHOLD_": _MMAP_THRESHOLD}
_SAID_BY_THE_USER = (*_BY_NAME, "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_memory() -> None:
    """For this process and those it starts, unless the environment says otherwise or malloc is not GNU's."""
    if any(name in os.environ for name in _SAID_BY_THE_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system's library
        return
    for name, option in _BY_NAME.items():
        mallopt(option, KEPT)
        os.environ[name] = str(KEPT)
