"""How the weights of a file differ from those of an architecture, by name and shape."""

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

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
