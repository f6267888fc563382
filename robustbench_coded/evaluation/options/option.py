"""One definition of an option: its default, its help and its values, for Python and the command line alike.

draws: int = option(10, "Fresh scoring draws of a randomised defence.", count(most=10_000))
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import Field, field, fields
from typing import Any

from robustbench_coded.errors import InputError

# What is wrong with one value, as it follows ``--flag VALUE``; None where nothing is.
Rule = Callable[[Any], str | None]


def option(default: Any, help: str = "", rule: Rule | None = None, *, flag: str = "") -> Any:
    """A field of EvalConfig. A tuple is checked value by value; None, where it is the default, is not.

    Args:
        help: one line for ``--help``.
        rule: what its values may be.
        flag: its name on the command line, where that is not the field's own.
    """
    return field(default=default, metadata={"help": help, "rule": rule, "flag": flag})


def flag_of(entry: Field) -> str:
    """The option as it is typed: ``--batch-size``."""
    return "--" + (entry.metadata.get("flag") or entry.name.replace("_", "-"))


def check_values(config: Any) -> None:
    """Refuses the first value that breaks its option's rule.

    Raises:
        InputError: in the same words wherever the value came from.
    """
    for entry in fields(config):
        rule, value = entry.metadata.get("rule"), getattr(config, entry.name)
        if rule is None or (value is None and entry.default is None):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            check_value(flag_of(entry), one, rule)


def check_value(flag: str, value: Any, rule: Rule) -> None:
    """Raises InputError where a value of ``flag`` breaks the rule."""
    if wrong := rule(value):
        raise InputError(f"{flag} {value!r} {wrong}")


def helps(config: type) -> Iterator[tuple[str, str]]:
    """The help of every option that has one, by the name of its field."""
    for entry in fields(config):
        if entry.metadata.get("help"):
            yield entry.name, entry.metadata["help"]


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
        if type(value) not in (int, float) or math.isnan(value):
            return "is not a number"
        if value < least or (above and value == least):
            return f"is too small; give {'more than ' if above else ''}{least:g}{'' if above else ' or more'}"
        if value > most:
            return f"is too large; give {most:g} or less"
        return None

    return rule


def one_of(*words: str) -> Rule:
    """One of these words."""
    choice = f"{', '.join(words[:-1])} or {words[-1]}"
    return lambda value: None if value in words else f"is not known; choose {choice}"
