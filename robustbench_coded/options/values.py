"""Values of options as people type them: radii, times, counts, lists, norms and named files."""

import math
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from attacks.norms import Norm, norm_named
from robustbench_coded.errors import LOG, InputError
from robustbench_coded.options.option import SMALLEST, Rule, check_value, plain


def read_number(value: Any, option: str, rule: Rule) -> Any:
    """A number, of any library or as text, as Python's own; InputError where it breaks the rule."""
    read = plain(Fraction(radius(value, option)) if isinstance(value, str) else value)
    check_value(option, read, rule)
    return read


def named_norm(value: object, option: str) -> Norm:
    """A norm by any of its usual names, as `norm_named`, refused as an option's value is."""
    try:
        return norm_named(value)
    except ValueError as error:
        raise InputError(f"{option} {value!r} is not known; choose linf, l2, l1 or l0") from error


def fraction(text: str, option: str) -> float:
    """``8/255``, ``0.5/255`` or ``0.03`` as a number."""
    over, slash, under = text.partition("/")
    try:
        value = float(Context(60).divide(Decimal(over), Decimal(under if slash else 1)))
    except ArithmeticError as error:
        raise InputError(f"{option} {text!r} is not a number; write 8/255 or 0.03") from error
    if Decimal(over) and not SMALLEST <= abs(value) < math.inf:
        raise InputError(f"{option} {text!r} is not a number of usual size; write 8/255 or 0.03")
    return value


def as_fraction(value: float) -> str:
    """``8/255`` where that is the number, else all its digits."""
    over = f"{round(value * 255, 6):g}"
    same = float(Fraction(over) / 255) == value
    return min([repr(value), f"{over}/255"] if same else [repr(value)], key=len)


def radius(text: str, option: str) -> float:
    """An eps as a number, with a hint on standard error where it counts in 256ths."""
    value = fraction(text, option)
    over, _, under = text.partition("/")
    if under.strip() == "256":
        meant = f"a pixel has 255 steps: write {over.strip()}/255 if you mean them"
        LOG.warning(f"{option} {text.strip()} is {value:.6g}; {meant}")
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


def as_seconds(value: float) -> str:
    """A time as `seconds` reads it."""
    return f"{value:.17g}s"


def counts(text: str, option: str, *, example: str = "8,16,32") -> tuple[int, ...]:
    """Comma-separated whole numbers."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no list of whole numbers; write {example}") from error


def kept_over(text: str) -> int | None:
    """Batches over which ``persistent:8`` keeps a defence's state, at least 2; 0 for ``reset``, else None."""
    kind, _, length = text.partition(":")
    if text == "reset":
        return 0
    if kind != "persistent" or not (length or "8").isdecimal():
        return None
    return over if 2 <= (over := int(length or 8)) <= 10_000 else None


def state_rule(text: str) -> str | None:
    """Says what is wrong with a state; None where nothing is."""
    return "is not known; choose reset or persistent:8" if kept_over(text) is None else None


def words(texts: list[str], option: str) -> tuple[str, ...]:
    """Comma-separated and repeated words, in order."""
    return tuple(part.strip() for text in texts for part in text.split(","))


def named_paths(texts: list[str], option: str) -> tuple[tuple[str, str], ...]:
    """``NAME=PATH`` or ``PATH`` (named after the file) as (name, path) pairs with different names.

    ``NAME='nets/erm-*.pt'`` names the files of a pattern NAME-1, NAME-2 ...: trainings of one recipe.
    """
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, separator, path = text.partition("=")
        # A path may hold an equals sign itself: then what stands before it is a path, not a name.
        if not separator or "/" in name or _exists(text):
            name, path = Path(text).stem or (text and Path(text).resolve().name), text
        if not name or not path:
            folder = f": {text} is a folder; name a file in it" if path and Path(path).is_dir() else ""
            raise InputError(f"{option} {text!r} is not PATH or NAME=PATH{folder}")
        several = _matching(path)
        for number, file in enumerate(several or [path], 1):
            own = name if not several else f"{name}-{number}" if path != text else Path(file).stem
            if own in dict(pairs):
                raise InputError(f"{option}: two checkpoints are named {own!r}; write {option} NAME=PATH")
            pairs.append((own, file))
    return tuple(pairs)


def _matching(pattern: str) -> list[str]:
    """The files that a pattern with ``*`` in its last part names, ``seed2`` before ``seed10``."""
    folder, name = Path(pattern).parent, Path(pattern).name
    if "*" not in name or _exists(pattern):
        return []
    return sorted(map(str, folder.glob(name)), key=lambda file: (len(file), file))


def as_named_path(pair: tuple[str, str]) -> str:
    """A pair as `named_paths` reads it."""
    name, path = pair
    return path if Path(path).stem == name else f"{name}={path}"


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than any path, for example
        return False
