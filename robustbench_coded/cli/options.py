"""Options that several commands describe alike, and how their values are read: times, comma lists, NAME=PATH,
folders. Below them those that ``eval``, ``sweep`` and ``plan`` share, typed or out of a file (``csrobust eval
run.toml``), and how they become an EvalConfig.
"""

import inspect
import math
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.deleted import answer_to
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import (
    AWARE_ATTACKS,
    DEFAULT,
    EvalConfig,
    attack_options,
    without_checkpoint,
)
from robustbench_coded.evaluation.options.option import (
    check_values,
    flag_of,
    fraction,
    named_norm,
    radii,
    radius,
)

Text = str | None
Number = float | None
Count = int | None

# Wherever something is read or printed.
AsJson = Annotated[bool, typer.Option("--json", help="Print one machine-readable object.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.")]
RunFolders = Annotated[list[Path], typer.Argument(help="Run folders.")]
DataDirText = Annotated[Text, typer.Option("--data-dir", help="Folder to search for data sets.")]


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
            name, path = Path(text).stem or (text and Path(text).resolve().name), text
        if not name or not path:
            folder = f": {text} is a folder; name a file in it" if path and Path(path).is_dir() else ""
            raise InputError(f"{option} {text!r} is not PATH or NAME=PATH{folder}")
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


def options_from_file(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the entries of a file the defaults of a command's options.

    The file of a run folder means that folder, unless ``--out`` names another.

    Raises:
        InputError: the file can't be read, or an entry is no option or of the wrong kind.
    """
    if path is None:
        return None
    from robustbench_coded.runs.folder import MANIFEST  # imports pandas, which help does without

    options = {param.name: param for param in context.command.params if param.name != "config"}
    values = {"out": str(path.parent)} if (path.parent / MANIFEST).exists() else {}
    for key, value in _read(path).items():
        name = {"json": "as_json"}.get(key, key.replace("-", "_"))
        if name not in options or name == "help":
            if (answer := answer_to(f"--{key}")) is not None:
                raise InputError(f"{path}: {answer}")
            near = did_you_mean(key, options)
            raise InputError(f"{path}: there is no option {key!r}; {near}`csrobust eval --help` lists them")
        values[name] = _as_typed(f"{path}: {key}", options[name], value)
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        looks_like_one = path.suffix in ("", ".pt", ".pth", ".th", ".safetensors")
        hint = f"; a checkpoint is named with --ckpt {path}" if looks_like_one else ""
        raise InputError(f"{path}: can't be read ({error.strerror}){hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error


def _as_typed(where: str, option: Any, value: Any) -> Any:
    """A value as the command line would have it: text, but for switches."""
    if option.is_flag:
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
    return texts if option.multiple else ",".join(texts)


Option = tuple[Any, Any]  # the type with its help, and the default


def option(kind: Any, *flags: str, help: str, default: Any = None, **more: Any) -> Option:
    """An option by its flags, as `takes` and `takes_only` have it."""
    return Annotated[kind, typer.Option(*flags, help=help, **more)], default


def attacks_option(shown: str, default: Sequence[str] = ()) -> Option:
    """``--attacks`` of a command, with the default that its help shows."""
    text = "Presets (paper, adaptive, aa, full) and names from `csrobust list attacks`, comma-separated."
    help_text = f"{text}  [default: {shown}]"
    return option(list[str], "--attacks", "--attack", help=help_text, default=[*default], show_default=False)


# Options that the command line reads as text: their type there, and their default.
_AS_TEXT: dict[str, Option] = {
    "batch_size": (str, "128"), "eps": (list[str], []), "inputs": (list[str], []),
    "claim": (str | None, None), "claim_eps": (str | None, None), "time": (str | None, None),
}  # fmt: skip


def _of_config() -> dict[str, Option]:
    """Every option that EvalConfig defines with a help, by its name on the command line."""
    options = {}
    for entry in fields(EvalConfig):
        if not entry.metadata.get("help"):
            continue
        kind, default = _AS_TEXT.get(entry.name, (entry.type, entry.default))
        flag = flag_of(entry)
        switch = f"{flag}/--no-{flag[2:]}" if default is True else flag
        help = entry.metadata["help"]
        options[flag[2:].replace("-", "_")] = option(kind, switch, help=help, default=default)
    return options


# Of the command that may stop along the way, and weighs a claim.
_OF_EVAL = ("until", "time", "claim", "claim_threat", "claim_eps", "claim_votes", "claim_attack")
_DEFINED = _of_config()
SHARED: dict[str, Option] = {
    "ckpt": option(list[str], "--ckpt", help="Checkpoint, PATH or NAME=PATH; may be repeated.", default=[]),
    "rci": option(
        list[str],
        "--rci",
        help="Randomised coded inference with N coded images, such as N=190, N=1.5K (1.5 times the batch "
        "size) or N=190,average=4 (mean over 4 draws).",
        default=[],
    ),
    "coded": option(
        list[str],
        "--coded",
        help="RCI without the random permutation, such as N=190.",
        default=[],
    ),
    "defence": option(
        list[str],
        "--defence",
        help="Another defence: a name from `csrobust list defences`, package.module:build, file.py:build, or "
        "'cmd: COMMAND' to run one in another environment.",
        default=[],
    ),
    "attacks": attacks_option(",".join(DEFAULT)),
    **{name: option for name, option in _DEFINED.items() if name not in _OF_EVAL},
    "quiet": option(bool, "--quiet", help="Print only the result.", default=False),
    "as_json": option(
        bool, "--json", help="Print the result as one JSON object instead of a table.", default=False
    ),
}


def takes_only(*names: str, **more: Option) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command these of the shared options, and ``more`` of its own or with other defaults."""
    return _with({**{name: SHARED[name] for name in names}, **more})


def takes(**more: Option) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command the shared options, and ``more`` of its own or with other defaults."""
    return _with({**SHARED, **more})


def _with(options: dict[str, Option]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
                for name, (annotation, default) in options.items()
            ]
        )
        command.__annotations__ = {name: annotation for name, (annotation, _) in options.items()}
        return command

    return decorate


def config_from(
    *,
    ckpt: list[str],
    rci: list[str],
    coded: list[str],
    defence: list[str],
    attacks: list[str],
    batch_size: str,
    eps: list[str],
    inputs: list[str],
    victim_attacks: Sequence[str] = (),
    relaxed_attacks: Sequence[str] = (),
    second_attacks: Sequence[str] = (),
    claim: str | None = None,
    claim_eps: str | None = None,
    claim_attack: str | None = None,
    time: str | None = None,
    **rest: object,
) -> EvalConfig:
    """Options as typed, made into a configuration and checked.

    Args:
        victim_attacks, relaxed_attacks, second_attacks: in place of those that the presets among the attacks
            stand for.

    Raises:
        InputError: with one line, for the first value that is wrong.
    """
    if not ckpt and not without_checkpoint(defence):
        raise InputError("no checkpoint given; name one with --ckpt model.pt")
    rest["norm"] = norm = named_norm(rest.get("norm", "linf"), "--norm")
    chosen = attack_options(attacks, norm=norm, claimed=claim_attack)
    written = {"victim": victim_attacks, "relaxed": relaxed_attacks, "second": second_attacks}
    chosen |= {f"{kind}_attacks": tuple(given) for kind, given in written.items() if given}
    config = EvalConfig(
        checkpoints=named_paths(ckpt, "--ckpt"),
        defences=tuple([f"rci:{t}" for t in rci] + [f"coded:{t}" for t in coded] + defence),
        **chosen,
        batch_size=counts(batch_size, "--batch-size"),
        eps=radii(eps, "--eps") if eps else None,
        inputs=tuple(dict.fromkeys(part.strip() for text in inputs or ["batch"] for part in text.split(","))),
        claim=None if claim is None else _claimed(claim),
        claim_eps=None if claim_eps is None else radius(claim_eps, "--claim-eps"),
        claim_attack=claim_attack,
        time=None if time is None else seconds(time, "--time"),
        command=("csrobust", *sys.argv[1:]),
        **rest,  # type: ignore[arg-type]
    )
    check_values(config)
    return config


# Of the commands that take their options from a file, too. The hidden ones stand in run.toml alone.
EVAL: dict[str, Option] = {
    "config": (
        Annotated[
            Path | None,
            typer.Argument(
                metavar="RUN.TOML",
                help="TOML file with options, such as the run.toml of an earlier run; command-line options "
                "take precedence.",
                is_eager=True,
                callback=options_from_file,
            ),
        ],
        None,
    ),
    **{
        f"{kind}_attacks": option(list[str], f"--{kind}-attacks", help="", default=[], hidden=True)
        for kind in ("victim", "relaxed", "second")
    },
    "aware_attacks": option(int, "--aware-attacks", help="", default=AWARE_ATTACKS, hidden=True),
    **{name: _DEFINED[name] for name in _OF_EVAL},
}


def _claimed(text: str) -> float:
    """``--claim 0.72`` or ``72%`` as a fraction."""
    try:
        value = fraction(text.rstrip("%"), "--claim") / (100 if text.endswith("%") else 1)
    except InputError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--claim {text} is not an accuracy; write 0.72 or 72%")
    return value
