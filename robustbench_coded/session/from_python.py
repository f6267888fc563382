"""``robustbench_coded.evaluate``: evaluates models, tensors and defences that a program has at hand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_coded.data.in_memory import dataset_in_memory
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.attack_choice import DEFAULT, attack_options
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.session.evaluate import evaluate as run_evaluation
from robustbench_coded.session.listener import Listener
from robustbench_coded.zoo.registry import ZOO

# Fields of EvalConfig that `evaluate` makes itself, from arguments of its own.
MADE_HERE = frozenset(
    {
        *("checkpoints", "data", "defences", "command"),
        *("attacks", "victim_attacks", "relaxed_attacks", "second_attacks", "checks"),
    }
)
SEVERAL = ("batch_sizes", "eps", "inputs")


def evaluate(
    models: nn.Module | str | PathLike[str] | Mapping[str, Any] | None = None,
    data: Any = "auto",
    *,
    defences: Iterable[Any] = (),
    attacks: str | Sequence[str] = DEFAULT,
    checks: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Run:
    """Evaluates models behind defences and writes a run folder, as ``csrobust eval`` does.

    Args:
        models: a ``torch.nn.Module`` from pixels [B, C, H, W] in [0, 1] to logits [B, classes], its
            normalisation inside; or a checkpoint's path; or several of either by name. None where a
            defence of the zoo brings its own.
        data: what ``--data`` takes (``"digits"``, ``"npz:FILE"`` ...), a pair (x, y) of tensors or arrays,
            or a DataLoader of such pairs; x [n, C, H, W] in [0, 1] or uint8, y integers [n].
        defences: what ``--defence`` takes as text (``"rci:N=1.5K"``, ``"noise:sigma=0.1"``); a defence
            (docs/your-defence.md); or a function or class that builds one around a model. Standard
            inference is evaluated, too, unless ``standard=False``.
        attacks: names and presets, comma-separated or one by one.
        checks: run the attacks of the checks even where no adaptive preset was asked for.
        listener: is told what happens; None stays silent.
        options: fields of `EvalConfig`: ``eps=8/255``, ``batch_sizes=128``, ``limit=640``, ``draws``,
            ``seed``, ``device``, ``out="reports/mine"``, ``overwrite=True`` ...

    Returns:
        the run: ``.summary`` is a frame, a line per attack; ``.judgements`` are the verdicts.

    Raises:
        InputError: something given is not usable; nothing was computed.
        IncompleteRun: some units failed; everything else is in the folder.
    """
    checkpoints, modules = _models({} if models is None else models)
    named, built = _defences(defences)
    if not checkpoints and not modules and not any(text in ZOO for text in named):
        raise InputError("no model given; give a torch.nn.Module, a checkpoint's path, or either by name")
    plain = isinstance(data, str)
    in_memory = InMemory(None if plain else dataset_in_memory(data), modules, built)
    chosen = [attacks] if isinstance(attacks, str) else list(attacks)
    config = EvalConfig(
        checkpoints=checkpoints,
        data=data if plain else "auto",
        defences=named,
        **attack_options(chosen, checks=checks, claimed=options.get("claim_attack")),
        **_options(options),
    )
    in_hand = not plain or modules or built
    return load_run(run_evaluation(config, listener, in_memory if in_hand else None))


def _models(models: Any) -> tuple[tuple[tuple[str, str], ...], dict[str, nn.Module]]:
    """(name, path) of checkpoints, and modules by name."""
    if isinstance(models, nn.Module):
        models = {"model": models}
    elif isinstance(models, str | PathLike):
        models = {Path(models).stem: models}
    if not isinstance(models, Mapping):
        raise InputError(
            f"models: expected a module, a path, or either by name, got {type(models).__name__}; give "
            "{'name': model}"
        )
    found = {str(name): model for name, model in models.items()}
    for name, model in found.items():
        if not isinstance(model, nn.Module | str | PathLike):
            raise InputError(
                f"model {name}: expected a torch.nn.Module or a path, got {type(model).__name__}; wrap what "
                "maps pixels to logits in a module"
            )
    modules = {name: model for name, model in found.items() if isinstance(model, nn.Module)}
    return tuple((name, str(path)) for name, path in found.items() if name not in modules), modules


def _defences(defences: Iterable[Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Specifications, and what is at hand by its name."""
    if isinstance(defences, str):
        defences = [defences]
    texts, built = [], {}
    for defence in defences:
        if isinstance(defence, str):
            texts.append(defence)
            continue
        own = getattr(defence, "name", None)
        name = own if isinstance(own, str) else getattr(defence, "__name__", type(defence).__name__)
        if name in built:
            raise InputError(f"defences: two are named {name!r}; give each a name of its own")
        built[name] = defence
    return tuple(texts), built


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as EvalConfig wants them: one size or radius stands for a tuple of it."""
    known = [field.name for field in fields(EvalConfig) if field.name not in MADE_HERE]
    for name in options:
        if name not in known:
            raise InputError(f"there is no option {name!r}; choose from {', '.join(known)}")
    found = dict(options)
    for name in SEVERAL:
        if name in found and found[name] is not None:
            value = found[name]
            found[name] = (value,) if isinstance(value, str | int | float) else tuple(value)
    if found.get("out") is not None:
        found["out"] = Path(found["out"])
    return found
