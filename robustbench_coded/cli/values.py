"""Reading the values of options: times, comma lists, NAME=PATH."""

import math
from pathlib import Path

from robustbench_coded.errors import InputError


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
