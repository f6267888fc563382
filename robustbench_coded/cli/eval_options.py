"""The options that ``eval``, ``sweep`` and ``plan`` share, typed or out of a file (``csrobust eval
run.toml``), and how they become an EvalConfig.
"""

import inspect
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from robustbench_coded.cli.options import counts, named_paths
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.options.config import (
    DEFAULT,
    EvalConfig,
    attack_options,
    without_checkpoint,
)
from robustbench_coded.evaluation.options.option import check_values, fraction, helps, radii, radius


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
    found = {"out": str(path.parent)} if (path.parent / MANIFEST).exists() else {}
    for key, value in _read(path).items():
        name = {"json": "as_json"}.get(key, key.replace("-", "_"))
        if name not in options or name == "help":
            near = did_you_mean(key, options)
            raise InputError(f"{path}: there is no option {key!r}; {near}`csrobust eval --help` lists them")
        found[name] = _as_typed(f"{path}: {key}", options[name], value)
    context.default_map = {**(context.default_map or {}), **found}
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
    for one in several:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise InputError(f"{where} is {str(one).lower()}; write text, a number, or a list of them")
    texts = [one if isinstance(one, str) else repr(one) for one in several]
    return texts if option.multiple else ",".join(texts)


_HELP = dict(helps(EvalConfig))
_DEFAULTS = {entry.name: entry.default for entry in fields(EvalConfig)}


# What stands for a value in `--help`.
_METAVARS = {int: "N", float: "NUMBER", Path: "PATH"}


def _option(kind: Any, *names: str, help: str, **more: Any) -> Any:
    """An option of the command line; a type that may be None is named by the other one."""
    plain = next((part for part in get_args(kind) if part is not type(None)), kind)
    metavar = None if kind is bool else _METAVARS.get(plain, "TEXT")
    return Annotated[kind, typer.Option(*names, **{"help": help, "metavar": metavar, **more})]


def _of_config(kind: Any, name: str, *flags: str, default: Any = ...) -> tuple[Any, Any]:
    """An option as EvalConfig defines it; ``default`` where the command line reads it as text."""
    flag = flags or ("--" + name.replace("_", "-"),)
    return _option(kind, *flag, help=_HELP[name]), _DEFAULTS[name] if default is ... else default


def attacks_option(shown: str, default: Sequence[str] = ()) -> tuple[Any, Any]:
    """``--attacks`` of a command, with the default that its help shows."""
    text = "Presets (paper, adaptive, aa, full) and names of `csrobust list attacks`, comma-separated."
    said = f"{text}  [default: {shown}]"
    return _option(list[str], "--attacks", "--attack", help=said, show_default=False), [*default]


# name -> (type with its help, default), in the order of `--help`
SHARED: dict[str, tuple[Any, Any]] = {
    "ckpt": (_option(list[str], "--ckpt", help="Checkpoint, PATH or NAME=PATH; may be repeated."), []),
    "rci": (
        _option(list[str], "--rci", help="Randomised coded inference: N=190, N=1.5K, N=190,average=4 ..."),
        [],
    ),
    "coded": (_option(list[str], "--coded", help="Coded inference without the permutation: N=190 ..."), []),
    "defence": (
        _option(
            list[str],
            "--defence",
            help="Other defence: a name of `csrobust list defences`, package.module:build, file.py:build, or "
            "'cmd: COMMAND' for one in an environment of its own.",
        ),
        [],
    ),
    "standard": _of_config(bool, "standard", "--standard/--no-standard"),
    "attacks": attacks_option(",".join(DEFAULT)),
    "data": _of_config(str, "data"),
    "data_dir": _of_config(str | None, "data_dir"),
    "limit": _of_config(int | None, "limit"),
    "all": _of_config(bool, "all", "--all"),
    "first": _of_config(bool, "first", "--first"),
    "batch_size": _of_config(str, "batch_sizes", "--batch-size", default="128"),
    "norm": _of_config(str, "norm"),
    "eps": _of_config(list[str], "eps", default=[]),
    "eps_space": _of_config(str, "eps_space"),
    "budget": _of_config(int | None, "budget"),
    "inputs": _of_config(list[str], "inputs", default=[]),
    "draws": _of_config(int, "draws"),
    "selection_draws": _of_config(int, "selection_draws"),
    "submissions": _of_config(int | None, "submissions"),
    "victims": _of_config(int, "victims"),
    "seed": _of_config(int, "seed"),
    "last_batch": _of_config(str, "last_batch"),
    "drop": _of_config(bool, "drop", "--drop/--no-drop"),
    "certify": _of_config(bool, "certify"),
    "checks": _of_config(bool, "checks"),
    "margin": _of_config(float, "margin"),
    "save_adversarials": _of_config(bool, "save_adversarials"),
    "peer_raw": _of_config(bool, "peer_raw"),
    "arch": _of_config(str | None, "arch"),
    "normalize": _of_config(str | None, "normalize"),
    "attack_precision": _of_config(str, "attack_precision"),
    "device": _of_config(str | None, "device"),
    "threads": _of_config(int | None, "threads"),
    "engine": _of_config(str, "engine"),
    "workers": _of_config(int | None, "workers"),
    "address": _of_config(str | None, "address"),
    "unit_timeout": _of_config(float | None, "unit_timeout"),
    "out": _of_config(Path | None, "out"),
    "resume": _of_config(bool, "resume"),
    "overwrite": _of_config(bool, "overwrite"),
    "quiet": (_option(bool, "--quiet", help="Print only the result."), False),
    "as_json": (_option(bool, "--json", help="Print one machine-readable object, not a table."), False),
}


def takes_only(*names: str, **more: tuple[Any, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command these of the shared options, and ``more`` of its own or with other defaults."""
    return _with({**{name: SHARED[name] for name in names}, **more})


def takes(**more: tuple[Any, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command the shared options, and ``more`` of its own or with other defaults."""
    return _with({**SHARED, **more})


def _with(options: dict[str, tuple[Any, Any]]) -> Callable[[Callable[..., int]], Callable[..., int]]:
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
    checks: bool = False,
    victim_attacks: Sequence[str] = (),
    relaxed_attacks: Sequence[str] = (),
    second_attacks: Sequence[str] = (),
    claim_attack: str | None = None,
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
    chosen = attack_options(attacks, checks=checks, claimed=claim_attack)
    written = {"victim": victim_attacks, "relaxed": relaxed_attacks, "second": second_attacks}
    chosen |= {f"{kind}_attacks": tuple(given) for kind, given in written.items() if given}
    config = EvalConfig(
        checkpoints=named_paths(ckpt, "--ckpt"),
        defences=tuple([f"rci:{t}" for t in rci] + [f"coded:{t}" for t in coded] + defence),
        **chosen,
        batch_sizes=counts(batch_size, "--batch-size"),
        eps=radii(eps, "--eps") if eps else None,
        inputs=tuple(dict.fromkeys(part.strip() for text in inputs or ["batch"] for part in text.split(","))),
        claim_attack=claim_attack,
        command=("csrobust", *sys.argv[1:]),
        **rest,  # type: ignore[arg-type]
    )
    check_values(config)
    return config


# Of the commands that take their options from a file, too. The hidden ones stand in run.toml alone.
FILE: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[
            Path | None,
            typer.Argument(
                metavar="[RUN.TOML]",
                help="A file with options, such as a run.toml; the command line overrides it.",
                is_eager=True,
                callback=options_from_file,
            ),
        ],
        None,
    ),
    "victim_attacks": (_option(list[str], "--victim-attacks", help="", hidden=True), []),
    "relaxed_attacks": (_option(list[str], "--relaxed-attacks", help="", hidden=True), []),
    "second_attacks": (_option(list[str], "--second-attacks", help="", hidden=True), []),
    "aware_attacks": (_option(int, "--aware-attacks", help="", hidden=True), _DEFAULTS["aware_attacks"]),
}

# Of the command that may stop along the way.
UNTIL: dict[str, tuple[Any, Any]] = {"until": _of_config(str | None, "until")}

# Of the commands that weigh a claim.
CLAIM: dict[str, tuple[Any, Any]] = {
    "claim": (_option(str | None, "--claim", help="A claimed accuracy to test, 0.72 or 72%."), None),
    "claim_threat": _of_config(str | None, "claim_threat"),
    "claim_eps": _of_config(str | None, "claim_eps"),
    "claim_accuracy": _of_config(str, "claim_accuracy"),
    "claim_attack": (
        _option(str | None, "--claim-attack", help="Attack under which it was claimed; it always runs."),
        None,
    ),
}


def claimed_value(text: str | None) -> float | None:
    """``--claim 0.72`` or ``72%`` as a fraction."""
    if text is None:
        return None
    wrong = InputError(f"--claim {text} is not an accuracy; write 0.72 or 72%")
    try:
        value = fraction(text.rstrip("%"), "--claim") / (100 if text.endswith("%") else 1)
    except InputError as error:
        raise wrong from error
    if not 0 <= value <= 1:
        raise wrong
    return value


def claimed_eps(text: str | None) -> float | None:
    """``--claim-eps 8/255`` as a number."""
    return None if text is None else radius(text, "--claim-eps")
