"""Which ways to assemble a network are clearly worse than the best one, by what its batch-norms remember."""

from collections.abc import Iterable
from typing import TypeVar

from robustbench_coded.models.fingerprint import Fingerprint

# What is so many times worse than the best goes no further. Where the best is bad itself, another part is
# wrong as well, and the comparison says less.
CLEARLY_WORSE = 4.0
CLEARLY_WORSE_THAN_BAD = 10.0
BAD = 0.02

# Beyond that, so many standard errors of the difference on the same images.
STANDARD_ERRORS = 3.0

# Forms of one part that differ by less are as good as alike, as ReLU and ReLU6.
ALIKE = 1.2

Item = TypeVar("Item")


def kept(scored: Iterable[tuple[Fingerprint, Item]], most: int, *, margin: float | None = None) -> list[Item]:
    """The best, best first, without what is clearly worse than the first of them.

    What a score owes to the small number of images is taken off the best one before it is multiplied.

    Args:
        margin: how many times chance a difference may be; None for STANDARD_ERRORS of each difference.
    """
    ordered = sorted(scored, key=lambda entry: entry[0].score)
    best = ordered[0][0]
    times = CLEARLY_WORSE if best.excess < BAD else CLEARLY_WORSE_THAN_BAD

    def close(one: Fingerprint) -> bool:
        chance = STANDARD_ERRORS * one.error_beside(best) if margin is None else margin * best.by_chance
        return one.score <= best.score + (times - 1) * best.excess + chance

    return [item for one, item in ordered[:most] if close(one)]


def alike(one: Fingerprint, best: Fingerprint) -> bool:
    """Whether a form of a part is not told from the best one."""
    return one.score - best.score <= max((ALIKE - 1) * best.score, STANDARD_ERRORS * one.error_beside(best))
