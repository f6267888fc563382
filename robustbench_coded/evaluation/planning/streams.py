"""Named streams of random numbers, so that two defences are compared on the same draws.

A stream is named by (seed, batch index, purpose, index): nothing else decides its numbers, neither the
checkpoint, the attack, the worker or the device, nor what ran before.
"""

import hashlib
from typing import Literal, get_args

import torch

Purpose = Literal[
    "examples",
    "partition",
    "victims",
    "probe",
    "selftest",
    "start",
    "base",
    "attack",
    "selection",
    "scoring",
]


def stream(seed: int, batch: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """The CPU generator of one named stream, at its beginning.

    Args:
        seed: the run's seed.
        batch: index of the batch within its partition; -1 for streams that belong to the entire data set.
        purpose: what the numbers are for. Attacker, selection and scoring never share a stream.
        index: index of the draw or of the restart, so that 10 draws are a prefix of 20.

    torch's CPU generator keeps 32 bits of a seed, so two of a run's streams coincide by chance with
    probability 2^-32 per pair; the outcomes of a run would not show it.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"expected a purpose out of {', '.join(get_args(Purpose))}, got {purpose!r}")
    name = f"{seed}/{batch}/{purpose}/{index}"
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
