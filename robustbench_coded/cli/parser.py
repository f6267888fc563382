"""Commands and their command lines: words to values, in the words of the user where they are wrong."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from robustbench_coded.deleted import answer_to
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import options
from robustbench_coded.evaluation.options.option import Parameter, parameters

F = TypeVar("F", bound=Callable[..., int])

HELP = ("-h", "--help")
# What other tools call an option.
SPELT = {
    "attack": "attacks",
    "epsilon": "eps",
    "dataset": "data",
    "checkpoint": "ckpt",
    "batchsize": "batch-size",
}


@dataclass(frozen=True)
class Command:
    """A function as a command.

    Attributes:
        name: with the programme and its groups: ``csrobust paper figure loss``.
        parameters: its options and arguments, by their names in Python.
        examples: command lines to copy.
        shares: whether its options are those of eval, which describes them.
    """

    name: str
    run: Callable[..., int]
    parameters: dict[str, Parameter]
    examples: tuple[str, ...] = ()
    shares: bool = False

    @property
    def text(self) -> str:
        """What it does, a line and whatever else there is to say."""
        return self.run.__doc__ or ""


@dataclass(frozen=True)
class Group:
    """Commands under one name: functions, and further groups."""

    text: str
    commands: dict[str, Any] = field(default_factory=dict)


def command_of(name: str, function: Callable[..., int]) -> Command:
    """A function with annotated parameters as a command."""
    taken: dict[str, Parameter] = getattr(function, "takes", {})
    examples = getattr(function, "examples", ())
    return Command(name, function, {**taken, **parameters(function)}, examples, hasattr(function, "shares"))


def takes(*names: str, shares: bool = False, **defaults: Any) -> Callable[[F], F]:
    """Gives a command these options of `EvalConfig`, all without names; some have other defaults.

    Args:
        shares: whether its help names those that are as in eval, and no more.
    """

    def decorate(command: F) -> F:
        chosen = {name: options()[name] for name in names or options()}
        changed = {name: replace(options()[name], default=value) for name, value in defaults.items()}
        command.takes = chosen | changed  # type: ignore[attr-defined]
        if shares:
            command.shares = True  # type: ignore[attr-defined]
        return command

    return decorate


def examples(*lines: str) -> Callable[[F], F]:
    """Sets the examples to copy of a command."""

    def decorate(command: F) -> F:
        command.examples = lines  # type: ignore[attr-defined]
        return command

    return decorate


def usual(name: str) -> str:
    """An option or a command as this command line has it: ``batch_size`` is ``batch-size``."""
    name = name.replace("_", "-")
    return SPELT.get(name, name)


def values_of(
    command: Command, words: list[str], stored: Callable[[Path, Command], Mapping[str, list[str] | bool]]
) -> dict[str, Any]:
    """The arguments of a command's function.

    Args:
        stored: texts out of the file that a command may be given; what is typed counts before them.

    Raises:
        InputError: the first word that is wrong, or what is missing.
    """
    typed = _typed(command, words)
    file = typed.get("file")
    path = Path(file[-1]) if isinstance(file, list) else None
    kept = {} if path is None else stored(path, command)
    values = {}
    for name, option in command.parameters.items():
        if (given := typed.get(name, kept.get(name))) is None:
            if option.default is MISSING:
                kind = "argument" if option.said.positional else "option"
                shown = name if option.said.positional else option.flag
                raise InputError(f"Missing {kind} {shown!r}; `{command.name} --help` says what it takes")
            values[name] = option.default
            continue
        try:
            values[name] = given if isinstance(given, bool) else option.read(given)
        except InputError as error:
            where = "" if name in typed else f"{path}: "
            raise InputError(f"{where}{error}") from error
    return values


def _typed(command: Command, words: list[str]) -> dict[str, list[str] | bool]:
    """Switches, and the texts of what else is given."""
    flags = {option.flag: name for name, option in command.parameters.items() if not option.said.positional}
    free = [name for name, option in command.parameters.items() if option.said.positional]
    typed: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            name = next((n for n in free if n not in typed or command.parameters[n].several), None)
            if name is None:
                raise InputError(f"unexpected argument {word!r}; `{command.name} --help` says what it takes")
            typed.setdefault(name, []).append(word)
            continue
        flag, is_given, value = word.partition("=")
        flag = f"--{usual(flag[2:])}"
        on = not flag.startswith("--no-")
        if (name := flags.get(flag if on else f"--{flag[5:]}")) is None or len(word) < 3:
            raise InputError(_unknown(command, word.partition("=")[0], flags))
        option = command.parameters[name]
        if option.kind is bool:
            if is_given:
                raise InputError(f"{flag} takes no value")
            typed[name] = on
            continue
        following = value if is_given else next(rest, None)
        if not on or following is None or (not is_given and following.startswith("--")):
            raise InputError(f"{flag} needs a value" if on else _unknown(command, flag, flags))
        typed.setdefault(name, []).append(following)
    return typed


def _unknown(command: Command, flag: str, flags: Mapping[str, str]) -> str:
    if (answer := answer_to(flag)) is not None:
        return answer
    if usual(flag.lstrip("-")) in {option.word for option in options().values()}:
        return f"{command.name} has no {flag}; csrobust eval has it"
    near = did_you_mean(flag, flags)
    return f"no such option {flag}; {near}`{command.name} --help` lists them"
