"""The names of norms: ``linf``, ``l2``, ``l1`` and ``l0``. Nothing here needs torch."""

Norm = str

NORMS = ("linf", "l2", "l1", "l0")
_SPELT = {"inf": "linf", "∞": "linf", "0": "l0", "1": "l1", "2": "l2"}


def norm_named(norm: object) -> Norm:
    """A norm by any of its usual names: "linf", "Linf", "inf", math.inf; 2, 2.0, "2", "L2", "l_2".

    Raises:
        ValueError: none of these.
    """
    text = str(norm).lower().replace(" ", "").removesuffix(".0").replace("_", "").replace("-", "")
    named = _SPELT.get(text.removeprefix("l"))
    if isinstance(norm, bool) or named is None:
        raise ValueError(f"expected norm linf, l2, l1 or l0, got {norm!r}")
    return named
