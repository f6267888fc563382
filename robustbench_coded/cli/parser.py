"""Commands, their options and their command lines: words, and those of run.toml, to values, in the words of
the user where they are wrong.
"""

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import EvalConfig, options, without_checkpoint
from robustbench_coded.options.option import REQUIRED, Option, check_values, options_of

F = TypeVar("F", bound=Callable[..., int])

# Wherever something is read or printed.
AsJson = Annotated[bool, Option("Print one machine-readable object.", word="json")]
Quiet = Annotated[bool, Option("Print only the result.")]
RunFolder = Annotated[Path, Option("Run folder.", positional=True)]
RunFolders = Annotated[list[Path], Option("Run folders.", positional=True)]
RunFile = Annotated[
    Path | None,
    Option(
        "TOML file with options, such as the run.toml of an earlier run; command-line options take "
        "precedence.",
        word="run.toml",
        positional=True,
    ),
]


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
    """

    name: str
    run: Callable[..., int]
    parameters: dict[str, Option]
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Says what it does: a line, and whatever else there is to say."""
        return self.run.__doc__ or ""


@dataclass(frozen=True)
class Group:
    """Commands under one name: functions, and further groups."""

    text: str
    commands: dict[str, Any] = field(default_factory=dict)


def command_of(name: str, function: Callable[..., int]) -> Command:
    """A function with annotated parameters as a command."""
    taken: dict[str, Option] = getattr(function, "takes", {})
    return Command(name, function, {**taken, **options_of(function)}, getattr(function, "examples", ()))


def takes(*names: str, **defaults: Any) -> Callable[[F], F]:
    """Gives a command these options of an evaluation, all without names; some have other defaults."""
    known = options()

    def decorate(command: F) -> F:
        chosen = dict.fromkeys([*(names or known), *defaults])
        taken = {n: replace(known[n], default=defaults.get(n, known[n].default)) for n in chosen}
        command.takes = taken  # type: ignore[attr-defined]
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


def values_of(command: Command, words: list[str]) -> dict[str, Any]:
    """The arguments of a command's function; what is typed counts before a file that it may be given.

    Raises:
        InputError: the first word that is wrong, or what is missing.
    """
    typed = _typed(command, words)
    file = typed.get("file")
    path = Path(file[-1]) if isinstance(file, list) else None
    kept = {} if path is None else _from_file(path, command)
    values = {}
    for name, option in command.parameters.items():
        if (given := typed.get(name, kept.get(name))) is None:
            if option.default is REQUIRED:
                kind = "argument" if option.positional else "option"
                shown = name if option.positional else option.flag
                raise InputError(f"Missing {kind} {shown!r}; `{command.name} --help` says what it takes")
            values[name] = option.default
            continue
        try:
            values[name] = given if isinstance(given, bool) else option.value(given)
        except InputError as error:
            where = "" if name in typed else f"{path}: "
            raise InputError(f"{where}{error}") from error
    return values


def _typed(command: Command, words: list[str]) -> dict[str, list[str] | bool]:
    """Switches, and the texts of what else is given."""
    flags = {option.flag: name for name, option in command.parameters.items() if not option.positional}
    free = [name for name, option in command.parameters.items() if option.positional]
    typed: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            name = next((n for n in free if n not in typed or command.parameters[n].several), None)
            if name is None:
                raise InputError(f"unexpected argument {word!r}; `{command.name} --help` says what it takes")
            typed.setdefault(name, []).append(word)
            continue
        flag, is_given, value = ("--option" if word == "-o" else word).partition("=")
        flag = f"--{usual(flag[2:])}"
        on = not flag.startswith("--no-")
        if (name := flags.get(flag if on else f"--{flag[5:]}")) is None or len(flag) < 3:
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
    word = usual(flag.lstrip("-"))
    if "--option" in flags:
        return f"no such option {flag}; write -o {word.replace('-', '_')}=VALUE (`{command.name} --help`)"
    if word in {option.word for option in options().values()}:
        return f"{command.name} has no {flag}; csrobust eval has it"
    near = did_you_mean(flag, flags)
    return f"no such option {flag}; {near}`{command.name} --help` lists them"


def config_from(**given: Any) -> EvalConfig:
    """Options as a command takes them, made into a configuration and checked.

    Raises:
        InputError: with one line, for the first value that is wrong.
    """
    config = EvalConfig(**given, command=("csrobust", *sys.argv[1:]))
    if not config.checkpoints and not without_checkpoint(config.defence):
        raise InputError("no checkpoint given; name one with --ckpt model.pt")
    check_values(options(), config)
    _ = config.requests  # a wrong name is said before torch is imported, which takes seconds
    return config


def _from_file(path: Path, command: Command) -> dict[str, list[str] | bool]:
    """The entries of a file as they would be typed, by the names of a command's options.

    The file of a run folder means that folder, unless ``--out`` names another.

    Raises:
        InputError: the file can't be read, or an entry is no option or of the wrong kind.
    """
    from robustbench_coded.runs.folder import holds_run  # imports pandas, which help does without

    by_word = {p.word: name for name, p in command.parameters.items() if not p.positional}
    values: dict[str, list[str] | bool] = {}
    if holds_run(path.parent):
        values["out"] = [str(path.parent)]
    for key, value in _read(path).items():
        word = key.replace("_", "-")
        if word not in by_word:
            near = did_you_mean(key, [each.replace("-", "_") for each in by_word])
            raise InputError(f"{path}: there is no option {key!r}; {near}`csrobust eval --help` lists them")
        name = by_word[word]
        values[name] = _texts(f"{path}: {key}", command.parameters[name], value)
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        looks_like_one = path.suffix in ("", ".pt", ".pth", ".th", ".safetensors")
        hint = f"; a checkpoint is named with --ckpt {path}" if looks_like_one else ""
        raise InputError(f"{path}: can't be read ({error.strerror}){hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error


def _texts(where: str, option: Option, value: Any) -> list[str] | bool:
    """A value as the command line would have it: text, but for switches."""
    if option.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{where} is {value!r}; write true or false")
        return value
    several = value if isinstance(value, list) else [value]
    if not several:
        raise InputError(f"{where} is an empty list; name one or more, or leave it out")
    for item in several:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise InputError(f"{where} is {str(item).lower()}; write text, a number, or a list of them")
    texts = [item if isinstance(item, str) else repr(item) for item in several]
    return texts if option.several else [",".join(texts)]
