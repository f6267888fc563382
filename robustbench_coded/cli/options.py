"""Options that several commands describe alike, and how those of an evaluation, typed or out of a file
(``csrobust eval run.toml``), become an `EvalConfig`.
"""

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.cli.parser import Command
from robustbench_coded.deleted import answer_to
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import EvalConfig, options, without_checkpoint
from robustbench_coded.evaluation.options.option import Option, Parameter, check_values

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


def options_from_file(path: Path, command: Command) -> dict[str, list[str] | bool]:
    """The entries of a file as they would be typed, by the names of a command's options.

    The file of a run folder means that folder, unless ``--out`` names another.

    Raises:
        InputError: the file can't be read, or an entry is no option or of the wrong kind.
    """
    from robustbench_coded.runs.folder import MANIFEST  # imports pandas, which help does without

    by_word = {p.word: name for name, p in command.parameters.items() if not p.said.positional}
    values: dict[str, list[str] | bool] = {}
    if (path.parent / MANIFEST).exists():
        values["out"] = [str(path.parent)]
    for key, value in _read(path).items():
        word = key.replace("_", "-")
        if word not in by_word:
            if (answer := answer_to(f"--{word}")) is not None:
                raise InputError(f"{path}: {answer}")
            near = did_you_mean(key, [each.replace("-", "_") for each in by_word])
            raise InputError(f"{path}: there is no option {key!r}; {near}`csrobust eval --help` lists them")
        name = by_word[word]
        values[name] = _as_typed(f"{path}: {key}", command.parameters[name], value)
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


def _as_typed(where: str, option: Parameter, value: Any) -> list[str] | bool:
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
