"""Named streams of random numbers for training.

A stream is named by (seed, purpose, index), so a run that was killed goes on from the start of an epoch with
the numbers it would have had, and no number depends on torch's global generator.
"""

import hashlib
from typing import Literal, get_args

import torch

Purpose = Literal["initialisation", "split", "order", "augmentation", "recipe", "dropout", "defence"]


def stream_seed(seed: int, purpose: Purpose, index: int = 0, rank: int = 0) -> int:
    """A 32-bit seed for one stream.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for.
        index: the epoch, where the purpose returns every epoch.
        rank: the process, where processes must not share their numbers.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"expected a purpose out of {', '.join(get_args(Purpose))}, got {purpose!r}")
    digest = hashlib.blake2b(f"train/{seed}/{purpose}/{index}/{rank}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def stream(seed: int, purpose: Purpose, index: int = 0, rank: int = 0) -> torch.Generator:
    """The CPU generator of one named stream, at its beginning; arguments as in :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, index, rank))
