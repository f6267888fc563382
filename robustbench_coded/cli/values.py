"""Reading the values of options: fractions, comma lists, NAME=PATH."""

import math
import sys
from fractions import Fraction
from pathlib import Path

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


def seconds(text: str, option: str) -> float:
    """``90s``, ``30m`` or ``2h`` in seconds; a bare number is refused, because its unit is unknown."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        value = float(text.strip()[:-1]) * units[text.strip()[-1:]]
    except (ValueError, KeyError) as error:
        raise InputError(f"{option} {text!r} is not a time; write 90s, 30m or 2h") from error
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{option} {text!r} is no time; write 90s, 30m or 2h")
    return value


def counts(text: str, option: str, least: int | None = None, *, example: str = "8,16,32") -> tuple[int, ...]:
    """Comma-separated whole numbers, of at least ``least`` where it is not checked elsewhere."""
    values = []
    for part in text.split(","):
        try:
            value = int(part)
        except ValueError as error:
            raise InputError(
                f"{option} {part.strip()!r} is not a whole number; write for example {example}"
            ) from error
        if least is not None and value < least:
            raise InputError(f"{option} {value} is too small; give {least} or more")
        values.append(value)
    return tuple(dict.fromkeys(values))


def named_paths(texts: list[str], option: str) -> tuple[tuple[str, str], ...]:
    """``NAME=PATH`` or ``PATH`` (named after the file) as (name, path) pairs with different names."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, separator, path = text.partition("=")
        # A path may hold an equals sign itself: then what stands before it is a path, not a name.
        if not separator or "/" in name or _exists(text):
            name, path = Path(text).stem, text
        if not name or not path:
            raise InputError(f"{option} {text!r} is not PATH or NAME=PATH")
        if name in dict(pairs):
            raise InputError(
                f"{option}: two checkpoints are named {name!r}; give them names, {option} NAME=PATH"
            )
        pairs.append((name, path))
    return tuple(pairs)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than any path, for example
        return False
