"""Why a file is refused, and how its weights differ from those that an architecture has."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Twice the largest network in use here (WRN-70-16, 1.1 GB in float32), so that a whole file fits in memory
# beside its copies.
MAX_FILE_BYTES = 2 * 2**30

# What describes the weights: the header of a safetensors file, the pickle of a torch file. ResNet-101 needs
# 0.1 MB; a parser's memory is up to a hundred times the text.
MAX_HEADER_BYTES = 2 * 2**20

# Files inside a torch archive, or tensors in a header.
MAX_TENSORS = 20_000

# Sides of one tensor; no weight here has more than 4.
MAX_SIDES = 8


class Refused(Exception):
    """What is wrong with a file, without the file's name: one clause that ends in how to mend it."""


def check_shape(name: str, shape: object, available: int) -> int:
    """The number of elements of ``shape``; refuses one that is impossible or more than ``available``."""
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MAX_SIDES
        or not all(type(side) is int and side >= 0 for side in shape)
    ):
        raise Refused(f"{name} has the impossible shape {str(shape)[:80]}")
    elements = 1
    for side in shape:
        elements *= side
    # A zero among the sides must not hide an absurd one.
    if max(elements, 0, *shape) > available:
        raise Refused(
            f"{name} claims the shape {str(list(shape))[:80]}, more than the file holds: "
            "truncated or damaged; copy or download it again"
        )
    return elements


Shapes = Mapping[str, tuple[int, ...]]


def shapes_in(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shape of each tensor, by its name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


# Counts batches in training; old files lack it and no answer depends on it.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Difference:
    """What separates a file from an architecture.

    Attributes:
        arch: name of the architecture.
        expected: number of its weights, without counters of batches.
        total: number of names that the two have together.
        count: weights that are missing, unexpected or of another shape.
        first: the first of them, a clause; empty where there is none.
    """

    arch: str
    expected: int
    total: int
    count: int
    first: str

    @property
    def share(self) -> float:
        """What differs among all names, in [0, 1]."""
        return self.count / max(1, self.total)

    def __str__(self) -> str:
        others = f" ({self.count} of {self.total} differ)" if self.count > 1 else ""
        return f"{self.arch}, where {self.first}{others}"


def compare(arch: str, shapes: Shapes, expected: Shapes) -> Difference:
    """Compares a file's names and shapes with an architecture's, in the architecture's order.

    Counters of batches do not count.
    """
    shapes, expected = (
        {n: s for n, s in names.items() if not n.endswith(COUNTER)} for names in (shapes, expected)
    )
    clauses = []
    for name, shape in expected.items():
        if name not in shapes:
            clauses.append(f"{name} is missing")
        elif shapes[name] != shape:
            clauses.append(f"{name} is {list(shapes[name])} instead of {list(shape)}")
    unexpected = [name for name in shapes if name not in expected]
    clauses += [f"{name[:80]} has no place" for name in unexpected]
    total = len(expected) + len(unexpected)
    return Difference(arch, len(expected), total, len(clauses), clauses[0] if clauses else "")
