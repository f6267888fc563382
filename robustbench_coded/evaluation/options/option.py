"""One definition of an option: its default, its help and its values, for Python and the command line
alike; and radii as text.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import Field, field, fields
from fractions import Fraction
from typing import Any

from attacks.norms import Norm, norm_named
from robustbench_coded.errors import LOG, InputError

# What is wrong with one value, as it follows ``--flag VALUE``; None where nothing is.
Rule = Callable[[Any], str | None]


def option(default: Any, help: str = "", rule: Rule | None = None) -> Any:
    """A field of EvalConfig. A tuple is checked value by value; None, where it is the default, is not.

    Args:
        help: one line for ``--help``.
        rule: what its values may be.
    """
    return field(default=default, metadata={"help": help, "rule": rule})


def flag_of(entry: Field) -> str:
    """The option as it is typed: ``--batch-size``."""
    return "--" + entry.name.replace("_", "-")


def check_values(config: Any) -> None:
    """Refuses the first value that breaks its option's rule.

    Raises:
        InputError: in the same words wherever the value came from.
    """
    for entry in fields(config):
        rule, value = entry.metadata.get("rule"), getattr(config, entry.name)
        if entry.metadata and value == ():
            raise InputError(f"{flag_of(entry)} has no value; give one or more, or leave it out")
        if type(entry.default) is bool and type(value) is not bool:
            raise InputError(f"{entry.name}: expected True or False, got {value!r}")
        if entry.type in (str, str | None) and not isinstance(value, str | None):
            raise InputError(f"{flag_of(entry)} {value!r} is not text")
        if rule is None or (value is None and entry.default is None):
            continue
        for each in value if isinstance(value, tuple) and "tuple" in str(entry.type) else (value,):
            check_value(flag_of(entry), each, rule)


def check_value(flag: str, value: Any, rule: Rule) -> None:
    """Raises InputError where a value of ``flag`` breaks the rule."""
    if wrong := rule(value):
        raise InputError(f"{flag} {value!r} {wrong}")


def count(least: int = 1, most: int | None = None) -> Rule:
    """A whole number from ``least`` to ``most``."""

    def rule(value: Any) -> str | None:
        if type(value) is not int:
            return "is not a whole number"
        if value < least:
            return f"is too small; give {least} or more"
        if most is not None and value > most:
            return f"is too large; give {most:,} or fewer"
        return None

    return rule


def number(least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> Rule:
    """A number from ``least`` to ``most``, or above ``least``."""

    def rule(value: Any) -> str | None:
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            return "is not a number"
        if value < least or (above and value == least):
            return f"is too small; give {'more than ' if above else ''}{least:g}{'' if above else ' or more'}"
        if value > most:
            return f"is too large; give {most:g} or less"
        return None

    return rule


def plain(value: Any) -> Any:
    """A number of numpy, torch or `fractions` as Python's own; anything else as it is."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


def read_number(value: Any, option: str, rule: Rule) -> Any:
    """A number, of any library or as text, as Python's own; InputError where it breaks the rule."""
    read = plain(Fraction(radius(value, option)) if isinstance(value, str) else value)
    check_value(option, read, rule)
    return read


def one_of(*words: str) -> Rule:
    """One of these words."""
    choice = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    return lambda value: None if value in words else f"is not known; choose {choice}"


def named_norm(value: object, option: str) -> Norm:
    """A norm by any of its usual names, as `norm_named`, refused as an option's value is."""
    try:
        return norm_named(value)
    except ValueError as error:
        raise InputError(f"{option} {value!r} is not known; choose linf, l2, l1 or l0") from error


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
        LOG.warning(f"{option} {text.strip()} is {value:.6g}; {meant}")
    return value


def radii(texts: list[str], option: str) -> tuple[float, ...]:
    """Comma-separated and repeated radii, in order, without repeats."""
    values = [radius(part, option) for text in texts for part in text.split(",")]
    return tuple(dict.fromkeys(values))
