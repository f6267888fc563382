"""The names of norms: ``linf``, ``l2``, ``l1``, ``l0``, of low frequencies alone, and unions of several.

``linf-low8`` and ``l2-low8`` measure in linf and l2, and allow the 8 x 8 lowest frequencies
(``attacks.low_frequency``). ``linf:8/255+l2:0.5`` is the union of these balls: eps is then a factor on all of
its radii, 1 by default. Nothing here needs torch.
"""

import re
from fractions import Fraction

Norm = str

_SPELT = {"inf": "linf", "∞": "linf", "0": "l0", "1": "l1", "2": "l2"}
_LOW = re.compile(r"(?P<base>.+)[-_]low(?P<size>[1-9][0-9]{0,3})")
CHOICE = "linf, l2, l1 or l0, linf-low8 or l2-low8 for low frequencies, or a union such as linf:8/255+l2:0.5"


def norm_named(norm: object) -> Norm:
    """A norm by any of its usual names: "linf", "Linf", "inf", math.inf; 2, 2.0, "2", "L2", "l_2".

    Raises:
        ValueError: none of these.
    """
    text = str(norm).lower().replace(" ", "")
    if ":" in text or "+" in text:
        return "+".join(_member(part, norm) for part in text.split("+"))
    low = _LOW.fullmatch(text)
    base = (low["base"] if low else text).removesuffix(".0").replace("_", "").replace("-", "")
    named = _SPELT.get(base.removeprefix("l"))
    if isinstance(norm, bool) or named is None or (low and named not in ("linf", "l2")):
        raise ValueError(f"expected norm {CHOICE}, got {norm!r}")
    return f"{named}-low{low['size']}" if low else named


def _member(part: str, union: object) -> str:
    name, colon, radius = part.partition(":")
    named = norm_named(name)
    try:
        usable = Fraction(radius) > 0
    except (ValueError, ZeroDivisionError):
        usable = False
    if not colon or not usable or named == "l0":
        raise ValueError(f"expected radii above 0, none in l0, as in linf:8/255+l2:0.5, got {union!r}")
    return f"{named}:{radius}"


def members_of(norm: Norm) -> tuple[tuple[Norm, float], ...]:
    """The norms of a union, each with its radius; a norm itself with 1.

    Raises:
        ValueError: no norm in the form of `norm_named`.
    """
    if norm_named(norm) != norm:
        raise ValueError(f"expected norm {norm_named(norm)}, got {norm!r}")
    parts = (part.partition(":") for part in norm.split("+"))
    return tuple((name, float(Fraction(radius or 1))) for name, _, radius in parts)


def is_union(norm: Norm) -> bool:
    """True if eps is a factor on radii that the norm's name has."""
    return ":" in norm


def base_of(norm: Norm) -> Norm:
    """The norm in which a perturbation of low frequencies is measured; others measure in themselves."""
    return norm.partition("-")[0]


def frequencies_of(norm: Norm) -> int | None:
    """How many frequencies each way are allowed; None for all of them."""
    low = _LOW.fullmatch(norm)
    return int(low["size"]) if low else None


def kind_of(norm: Norm) -> str:
    """The kind of a norm, which attacks support or not: ``linf-low8`` is of the kind ``linf-low``."""
    return norm.rstrip("0123456789") if frequencies_of(norm) else norm
