"""The options that ``eval``, ``sweep`` and ``plan`` share, and how they become an EvalConfig."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.cli.values import counts, fraction, fractions, named_paths
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.attack_choice import attack_options
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.zoo.registry import ZOO


def _option(kind: Any, *names: str, help: str) -> Any:
    return Annotated[kind, typer.Option(*names, help=help)]


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
            help="Another: a name of `csrobust list defences`, or package.module:build.",
        ),
        [],
    ),
    "match_clean": (
        _option(
            str | None,
            "--match-clean",
            help="Also noise, resize-pad and mixup-inference, as accurate on clean inputs as this one: rci.",
        ),
        None,
    ),
    "standard": (_option(bool, "--standard/--no-standard", help="Evaluate standard inference, too."), True),
    "attacks": (
        _option(
            list[str], "--attacks", help="Presets (paper, adaptive, aa, full) and attacks, comma-separated."
        ),
        [],
    ),
    "data": (_option(str, "--data", help="auto, digits, cifar10, cifar100, npz:FILE or folder:DIR."), "auto"),
    "data_dir": (_option(str | None, "--data-dir", help="Where data sets are looked for."), None),
    "limit": (_option(int | None, "--limit", help="Take the first LIMIT examples."), None),
    "batch_size": (
        _option(str, "--batch-size", help="K: inputs answered together; several: 8,16,32."),
        "128",
    ),
    "norm": (_option(str, "--norm", help="linf or l2."), "linf"),
    "eps": (_option(list[str], "--eps", help="Radius, default 8/255 (digits: 0.3); several: a curve."), []),
    "eps_space": (
        _option(str, "--eps-space", help="pixel ([0, 1]) or normalized (times each channel's deviation)."),
        "pixel",
    ),
    "budget": (
        _option(
            int | None, "--budget", help="Stop every attack at this many images forward and back per example."
        ),
        None,
    ),
    "inputs": (
        _option(list[str], "--inputs", help="Whose inputs: batch (default), victim, co-batch or collateral."),
        [],
    ),
    "draws": (_option(int, "--draws", help="Fresh scoring draws of a randomised defence."), 10),
    "selection_draws": (_option(int, "--selection-draws", help="Draws that choose between attacks."), 10),
    "queries": (
        _option(int | None, "--queries", help="Also: accuracy when any of M repeated queries may fail."),
        None,
    ),
    "replicates": (
        _option(int, "--replicates", help="Partitions into batches, each with its attack seed."),
        1,
    ),
    "victims": (
        _option(int, "--victims", help="Victims sampled for the victim and co-batch threat models."),
        64,
    ),
    "seed": (_option(int, "--seed", help="Names every random stream of the run."), 0),
    "last_batch": (
        _option(str, "--last-batch", help="pad, shrink or drop a last batch that is not full."),
        "pad",
    ),
    "drop": (
        _option(bool, "--drop/--no-drop", help="Stop early on broken examples where nothing is random."),
        True,
    ),
    "checks": (
        _option(
            bool, "--checks", help="Run the attacks that the checks need; adaptive presets do so anyway."
        ),
        False,
    ),
    "save_adversarials": (
        _option(bool, "--save-adversarials", help="Store every perturbed input, for `csrobust verify`."),
        False,
    ),
    "peer_raw": (
        _option(bool, "--peer-raw", help="Let third-party attacks choose their own batches."),
        False,
    ),
    "arch": (_option(str | None, "--arch", help="Architecture, or package.module:function."), None),
    "normalize": (
        _option(str | None, "--normalize", help="none, cifar10, cifar10-2023, imagenet or m,m,m/s,s,s."),
        None,
    ),
    "attack_precision": (
        _option(str, "--attack-precision", help="Of the attacks' gradients: float32, bfloat16 or auto."),
        "float32",
    ),
    "device": (_option(str | None, "--device", help="cpu, cuda, cuda:1 ...; CUDA where there is one."), None),
    "threads": (_option(int | None, "--threads", help="CPU threads per worker."), None),
    "engine": (_option(str, "--engine", help="local or ray."), "local"),
    "workers": (
        _option(
            int | None,
            "--workers",
            help="Processes that share the work; one per GPU where there are several.",
        ),
        None,
    ),
    "address": (
        _option(str | None, "--address", help="Ray cluster, auto or HOST:PORT; else Ray starts here."),
        None,
    ),
    "unit_timeout": (
        _option(float | None, "--unit-timeout", help="Seconds after which a unit of work counts as hanging."),
        None,
    ),
    "out": (
        _option(Path | None, "--out", help="Run folder; named after checkpoint and data unless given."),
        None,
    ),
    "resume": (_option(bool, "--resume", help="Insist that the folder holds a run to go on with."), False),
    "overwrite": (_option(bool, "--overwrite", help="Start the run in this folder anew."), False),
    "quiet": (_option(bool, "--quiet", help="Print the result alone."), False),
    "as_json": (_option(bool, "--json", help="Print one machine-readable object, not a table."), False),
}


def takes_only(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command these of the shared options."""
    return _with({name: SHARED[name] for name in names})


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
    limit: int | None,
    draws: int,
    selection_draws: int,
    checks: bool = False,
    **rest: object,
) -> EvalConfig:
    """Options as typed, checked and made into a configuration.

    Raises:
        InputError: with one line, for the first value that is wrong.
    """
    if not ckpt and not any(text in ZOO for text in defence):
        raise InputError("no checkpoint given; name one with --ckpt model.pt")
    if limit is not None and limit < 1:
        raise InputError(
            f"--limit {limit} takes no example; give a count of at least 1, or leave it out for all"
        )
    counted = {"draws": draws, "selection_draws": selection_draws} | rest
    for name in ("draws", "selection_draws", "replicates", "victims"):
        value = counted.get(name, 1)
        if isinstance(value, int) and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value} is too small; give 1 or more")
    return EvalConfig(
        checkpoints=named_paths(ckpt, "--ckpt"),
        defences=tuple([f"rci:{t}" for t in rci] + [f"coded:{t}" for t in coded] + defence),
        **attack_options(attacks, checks=checks),
        batch_sizes=counts(batch_size, "--batch-size", 1),
        eps=_radii(eps),
        inputs=tuple(dict.fromkeys(part.strip() for text in inputs or ["batch"] for part in text.split(","))),
        limit=limit,
        draws=draws,
        selection_draws=selection_draws,
        command=("csrobust", *sys.argv[1:]),
        **rest,  # type: ignore[arg-type]
    )


def _radii(texts: list[str]) -> tuple[float, ...] | None:
    if not texts:
        return None
    values = fractions(texts, "--eps")
    for value in values:
        if value < 0:
            raise InputError(f"--eps {value:g} is negative; a radius is 0 or more")
    return values


def claim_value(text: str | None) -> float | None:
    """``--claim 0.72`` or ``72%`` as a fraction."""
    if text is None:
        return None
    value = fraction(text.rstrip("%"), "--claim") / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise InputError(f"--claim {text} is not an accuracy; write 0.72 or 72%")
    return value
