"""How many coded inputs a batch of K is answered through: N as users write it. Needs no torch."""

import math
import re
from fractions import Fraction
from functools import lru_cache

FEWEST = 4  # the smallest K and N: arXiv:2510.00253, section 5
MOST = 65_536  # the largest N: beyond it a slip of the pen fills the memory before anything is computed

_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})?([Kk]?)")


@lru_cache(maxsize=1024)  # asked at every query of an attack
def coded_size(size: str | float, k: int) -> int:
    """Reads N: a number (``190``), or a multiple of ``k`` rounded half up (``1.5K``, ``K``).

    Args:
        size: as typed, or a number; only a multiple of K may have decimals.
        k: number of inputs in the batch, at least 4.
    Returns:
        N, from 4 to 65536.
    Raises:
        ValueError: one line that says what is wrong with ``size`` or ``k``.
    """
    if k < FEWEST:
        raise ValueError(f"expected k >= {FEWEST}, got {k}")
    text = str(size).strip()
    match = _SIZE.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"expected N like 190, 1.5K or K, got {text!r}")
    number, multiple = match.groups()
    # A fraction: 1.15K at K = 10 is 11.5 and rounds up to 12, where the float product is 11.499...
    n = Fraction(number or 1) * (k if multiple else 1)
    if not multiple and n.denominator != 1:
        raise ValueError(f"expected a whole N or a multiple of K like 1.5K, got {text!r}")
    rounded = math.floor(n + Fraction(1, 2))
    if rounded < FEWEST:
        raise ValueError(f"expected N >= {FEWEST}, got {text!r}, which is {rounded} at K={k}")
    if rounded > MOST:
        raise ValueError(f"expected N <= {MOST}, got {text!r}, which is {rounded} at K={k}")
    return rounded
