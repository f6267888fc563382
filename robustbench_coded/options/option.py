"""One definition of an option: its type, default, sentence, values and spelling, for the command line,
run.toml, Python and help alike.

``seed: int = option(0, "Random seed.", count())`` is a field of `EvalConfig`. A parameter of a command says
the same behind its type: ``seed: Annotated[int, Option("Random seed.", count())] = 0``.
"""

import inspect
import math
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from robustbench_coded.errors import InputError

# What is wrong with one value, as it follows ``--flag VALUE``; None where nothing is.
Rule = Callable[[Any], str | None]
REQUIRED = inspect.Parameter.empty  # in place of a default
SMALLEST = 2.0**-126  # of the numbers that float32 has with all their digits; some machines take less for 0


@dataclass(frozen=True)
class Option:
    """An option of an evaluation, or an option or argument of a command.

    Attributes:
        help: a sentence for ``--help``.
        rule: what its values may be; a tuple is checked value by value.
        word: as it is typed and as run.toml has it, ``batch-size``; by default its name with hyphens.
        read: makes the value of what was typed, ``(texts, flag)``; several texts where it is repeated.
        write: a value, or one of several, as it is typed.
        shown: a default as help names it.
        positional: whether it is typed without a flag.
        name: in Python; like the next two, `options_of` fills it in from the definition.
        annotation: its type.
        default: `REQUIRED` where it has to be given.
    """

    help: str
    rule: Rule | None = None
    word: str = ""
    read: Callable[[list[str], str], Any] | None = None
    write: Callable[[Any], Any] | None = None
    shown: str = ""
    positional: bool = False
    name: str = ""
    annotation: Any = None
    default: Any = REQUIRED

    @property
    def flag(self) -> str:
        """``--batch-size``; of an argument its name."""
        return self.word.upper() if self.positional else f"--{self.word}"

    @property
    def several(self) -> type | None:
        """``tuple`` or ``list`` where it takes more than one value."""
        origin = get_origin(alternatives(self.annotation)[0])
        return origin if origin in (tuple, list) else None

    @property
    def kind(self) -> type:
        """The type of each value: ``bool`` of a switch."""
        own = alternatives(self.annotation)[0]
        kind = get_args(own)[0] if self.several else own
        return kind if kind in (bool, int, float, Path) else str

    def value(self, texts: list[str]) -> Any:
        """The value of what was typed; the last text counts where only one is taken.

        Raises:
            InputError: it is no value.
        """
        if self.read is not None:
            return self.read(texts, self.flag)
        values = [_read(text, self.kind, self.flag) for text in texts]
        return self.several(values) if self.several else values[-1]


def option(default: Any, help: str, rule: Rule | None = None, **more: Any) -> Any:
    """A field of `EvalConfig`; ``more`` is what else `Option` has."""
    return field(default=default, metadata={"said": Option(help, rule, **more)})


def last(read: Callable[[str, str], Any]) -> Callable[[list[str], str], Any]:
    """For an option with one value: the last of the texts counts."""
    return lambda texts, flag: read(texts[-1], flag)


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type itself."""
    return get_args(annotation) if get_origin(annotation) in (types.UnionType, Union) else (annotation,)


def options_of(owner: Any) -> dict[str, Option]:
    """The options that a configuration or the signature of a function defines, by name, in their order."""
    if is_dataclass(owner):
        entries = [(e.name, e.type, e.metadata.get("said"), e.default) for e in fields(owner)]
    else:
        hints = get_type_hints(owner, include_extras=True)
        given = inspect.signature(owner).parameters.values()
        entries = [(p.name, *_of_annotation(hints.get(p.name)), p.default) for p in given]
    return {name: _defined(name, kind, said, default) for name, kind, said, default in entries if said}


def _of_annotation(hint: Any) -> tuple[Any, Option | None]:
    return get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)


def _defined(name: str, annotation: Any, said: Option, default: Any) -> Option:
    literal = next((a for a in alternatives(annotation) if get_origin(a) is Literal), None)
    rule = said.rule if literal is None else one_of(*get_args(literal))
    word = said.word or name.replace("_", "-")
    return replace(said, name=name, word=word, annotation=annotation, default=default, rule=rule)


def _read(text: str, kind: type, flag: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{flag} {text!r} is not {wanted}") from error


def check_values(options: Mapping[str, Option], values: Any) -> None:
    """Refuses the first value that breaks its option's rule.

    Raises:
        InputError: in the same words wherever the value came from.
    """
    for name, option in options.items():
        value, flag = getattr(values, name), option.flag
        if option.kind is bool and type(value) is not bool:
            raise InputError(f"{name}: expected True or False, got {value!r}")
        if option.annotation in (str, str | None) and not isinstance(value, str | None):
            raise InputError(f"{flag} {value!r} is not text")
        if (rule := option.rule) is None or (value is None and option.default is None):
            continue
        for each in value if option.several and isinstance(value, tuple) else (value,):
            check_value(flag, each, rule)


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
        if 0 < abs(value) < SMALLEST:
            return "is too small to be told from 0"
        if value < least or (above and value == least):
            return f"is too small; give {'more than ' if above else ''}{least:g}{'' if above else ' or more'}"
        if value > most:
            return f"is too large; give {most:g} or less"
        return None

    return rule


def one_of(*words: str) -> Rule:
    """One of these words."""
    choice = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    return lambda value: None if value in words else f"is not known; choose {choice}"


def plain(value: Any) -> Any:
    """A number of numpy, torch or `fractions` as Python's own; anything else as it is."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value
