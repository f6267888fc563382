"""A digest of perturbed inputs that does not depend on how they were cut into batches and units."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

NAME = "perturbed"  # in the metadata of a unit
_BITS = 128


@dataclass
class PerturbedDigest:
    """Sum of a hash of each example and its perturbed input, modulo 2^128: any order, any cut into units."""

    total: int = 0
    count: int = 0

    def add(self, examples: Sequence[int], x: Tensor) -> None:
        """Inputs after an attack, [n, C, H, W], and which examples they were made from."""
        for example, image in zip(examples, x.cpu().numpy(), strict=True):
            content = np.ascontiguousarray(image).tobytes()
            name = str(example).encode()
            digest = hashlib.blake2b(content, digest_size=_BITS // 8, key=name).digest()
            self.total = (self.total + int.from_bytes(digest, "little")) % (1 << _BITS)
            self.count += 1

    def metadata(self) -> dict[str, str]:
        """For the metadata of a unit; empty where nothing was added."""
        return {NAME: f"{self.total:032x}"} if self.count else {}


def sum_of(digests: Iterable[object]) -> str | None:
    """The digest of several units together; None where one has none, as in runs of earlier versions."""
    total = 0
    for digest in digests:
        try:
            total += int(str(digest), 16)
        except ValueError:
            return None
    return f"{total % (1 << _BITS):032x}"
