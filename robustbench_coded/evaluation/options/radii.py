"""Radii as text, as the command line and Python take them: ``8/255``, ``0.03``, ``4/255,8/255``."""

import math
import sys
from fractions import Fraction

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import one_line


def fraction(text: str, option: str) -> float:
    """``8/255``, ``0.5/255`` or ``0.03`` as a number."""
    over, slash, under = text.strip().partition("/")
    try:
        if "/" in under:
            raise ValueError("two fraction lines")
        value = float(Fraction(over) / Fraction(under if slash else 1))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{option} {text!r} is not a number; write 8/255 or 0.03") from error
    if not math.isfinite(value):
        raise InputError(f"{option} {text!r} is not finite; write 8/255 or 0.03")
    return value


def radius(text: str, option: str) -> float:
    """An eps as a number, with a hint on standard error where it counts in 256ths."""
    value = fraction(text, option)
    over, _, under = text.partition("/")
    if under.strip() == "256":
        meant = f"a pixel has 255 steps: write {over.strip()}/255 if you mean them"
        print(one_line(f"csrobust: {option} {text.strip()} is {value:.6g}; {meant}"), file=sys.stderr)
    return value


def radii(texts: list[str], option: str) -> tuple[float, ...]:
    """Comma-separated and repeated radii, in order, without repeats."""
    values = [radius(part, option) for text in texts for part in text.split(",")]
    return tuple(dict.fromkeys(values))
