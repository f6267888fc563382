"""``robustbench_coded.evaluate``: evaluates models, images and defences that a program has at hand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import torch
from rich.console import Console
from torch import nn

from attacks.adapters.plugin import keep, written
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.options import brought
from robustbench_coded.errors import InputError, did_you_mean, in_python
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.guard import guarded
from robustbench_coded.evaluation.options.config import OF_ARGUMENTS, EvalConfig, options, without_checkpoint
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from robustbench_coded.evaluation.session.evaluate import evaluate as run_evaluation
from robustbench_coded.evaluation.session.listener import Listener, ProgressListener
from robustbench_coded.evaluation.setup.checkpoints import with_zoo
from robustbench_coded.models.in_memory import is_function, name_of
from robustbench_coded.options.option import Option, plain
from robustbench_coded.options.values import words
from robustbench_coded.run import Run, load_run

ARGUMENTS = ("models", "data", "labels", "defences", "attacks", "listener", "quiet")
SPELT = {"epsilon": "eps", "batchsize": "batch_size"}  # as on the command line
# What other libraries call an option, where the name alone does not tell.
CALLED_ELSEWHERE = {
    "n_examples": "limit",
    "dataset": "data",
    "bs": "batch_size",
    "batch_sizes": "batch_size",
    "checkpoint": "models",
    "ckpt": "models",
}


@guarded
def evaluate(
    models: Callable[..., Any] | str | PathLike[str] | Mapping[str, Any] | None = None,
    data: Any = "auto",
    labels: Any = None,
    *,
    defences: Any = (),
    attacks: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    listener: Listener | None = None,
    quiet: bool = False,
    **options: Unpack[EvaluateOptions],
) -> Run:
    """Evaluates models behind defences and writes a run folder, like ``csrobust eval``.

    docs/in-memory.md shows the usual forms of models, images and defences. Gradients are enabled whatever
    the caller's grad mode. Without ``out``, the run is written to a new temporary folder.

    Args:
        models: a ``torch.nn.Module`` or a function from pixels [B, C, H, W] in [0, 1] to logits [B, classes],
            which includes its normalisation; a checkpoint's path; or a dictionary of these by name. None for
            a defence of the zoo that includes its network.
        data: a value of ``--data`` (``"digits"``, ``"npz:FILE"`` ...), or labelled images: a data set or a
            DataLoader of torch, a data set of Hugging Face, a pair (x, y) of tensors or arrays, a list of
            pairs. Images are uint8 or in [0, 1].
        labels: y, if ``data`` is x.
        defences: one defence, a list, or a dictionary by name. Each is a value of ``--defence``
            (``"rci:N=1.5K"``, ``"noise:sigma=0.1"``), a defence (docs/your-defence.md), a module or function
            from pixels to logits that may sample, or a function or class that builds one around a model.
            Standard inference is evaluated, too, unless ``standard=False``.
        attacks: names and presets, comma-separated or as a list, and functions
            ``(model, x, y, eps=...)`` that return perturbed inputs; None for the default of the norm.
        listener: receives the events of the run. None shows progress on standard error.
        quiet: show no progress.
        options: those of ``csrobust eval --help``: ``eps="8/255"``, ``batch_size=128``, ``limit=640``,
            ``draws``, ``seed``, ``device``, ``out="runs/mine"``, ``overwrite=True`` ...

    Returns:
        the run. ``.summary`` is a pandas frame with a row per attack, ``.judgements`` are the verdicts,
        ``.plot()`` draws the result, ``.examples()`` returns perturbed images, and ``.again(draws=20)``
        repeats the evaluation with other options.

    Raises:
        InputError: an argument is invalid; nothing was computed.
        IncompleteRun: some units failed; all other results are in the folder.
    """
    given = {"models": models, "data": data, "labels": labels, "defences": defences, "attacks": attacks}
    try:
        run, images = _evaluate(**given, listener=listener or (Listener() if quiet else None), chosen=options)
    except InputError as error:
        message, *choices = in_python(str(error)).split("\n")
        raise InputError(message, choices) from error.__cause__
    read = {} if images is None else {"data": images, "labels": None}  # a stream is read once
    told = {"listener": listener, "quiet": quiet}
    base = given | read | told | {**options, "out": run.path, "overwrite": False}
    return replace(run, again=lambda **changed: evaluate(**(base | changed)), images=images)


def _evaluate(
    models: Any,
    data: Any,
    labels: Any,
    defences: Any,
    attacks: Any,
    listener: Listener | None,
    chosen: Mapping[str, Any],
) -> tuple[Run, Dataset | None]:
    """The run, and the images that were given in memory."""
    chosen = _options(chosen)
    checkpoints, networks = _models({} if models is None else models)
    data = str(data) if isinstance(data, PathLike) else data
    named, built = _defences(defences)
    alone = not checkpoints and not networks
    if alone and not without_checkpoint(named):
        raise InputError("no model given; give a network, a checkpoint's path, or either by name")
    several = () if attacks is None else _several(attacks)
    for line in filter(None, map(written, several)):
        raise InputError(f"attacks: {line}")
    if attacks is not None and not (several and all(isinstance(a, str) or callable(a) for a in several)):
        raise InputError(f"attacks {attacks!r}: expected names or functions, or None for the default ones")
    plain = isinstance(data, str) and labels is None
    in_hand = not plain or networks or built
    config = EvalConfig(
        checkpoints=checkpoints,
        data=data if plain else "auto",
        defence=named,
        attacks=None if attacks is None else words([*keep(several)], "--attacks"),
        **chosen,
    )
    _ = config.requests, device_named(config.device)  # what is wrong here is said before anything is read
    in_memory = InMemory(
        None if plain else dataset_in_memory(data if labels is None else (data, labels)),
        networks,
        built,
        config.batch_size or (128,),
    )
    if alone and in_hand:
        if any(brought(text) is not None for text in named):
            raise InputError(f"{named[0]} is of the zoo, with its own model and data; evaluate it alone")
        config, process = with_zoo(config)
        in_memory = replace(in_memory, models=process.models)
    listener = listener or ProgressListener(Console(stderr=True))
    with closing(listener):
        path = run_evaluation(config, listener, in_memory if in_hand else None, fresh=True)
    return load_run(path), in_memory.data


def _models(models: Any) -> tuple[tuple[tuple[str, str], ...], dict[str, Callable[..., Any]]]:
    """(name, path) of checkpoints, and networks by name."""
    if isinstance(models, str | PathLike):
        models = {Path(models).stem: models}
    elif not isinstance(models, Mapping):
        models = {"model": models}
    networks = {}
    for name, model in models.items():
        model = model.module() if isinstance(model, torch.export.ExportedProgram) else model
        if isinstance(model, nn.Module) or is_function(model):
            networks[str(name)] = model
        elif hasattr(model, "logits"):
            raise InputError(
                f"models: {name} is a defence ({type(model).__name__}); give the network that it is built "
                "around, and this as defences=[...]"
            )
        elif not isinstance(model, str | PathLike):
            what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
            raise InputError(
                f"{name}: expected a torch.nn.Module, a function or a path, got {what}; give what maps "
                "pixels to logits, or several by name: {'name': model}"
            )
    return tuple(
        (str(name), str(path)) for name, path in models.items() if str(name) not in networks
    ), networks


def _defences(defences: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Specifications, and what is at hand by its name."""
    if isinstance(defences, Mapping):
        pairs = [(str(name), defence) for name, defence in defences.items()]
    else:
        single = isinstance(defences, str) or callable(defences) or hasattr(defences, "logits")
        if not single and not isinstance(defences, Iterable):
            raise InputError(f"defences: expected one or a list of them, got {type(defences).__name__}")
        pairs = [(_defence_name(defence), defence) for defence in ([defences] if single else defences)]
    built: dict[str, Any] = {}
    for name, defence in pairs:
        if not name or not name.isprintable() or ("/" in name and not isinstance(defence, str)):
            raise InputError(f"defences: {name!r} names no row of a table; take a name without a slash")
        if name in built:
            raise InputError(
                f"defences: two are named {name!r}; name them: defences={{'first': ..., 'second': ...}}"
            )
        if not isinstance(defence, str):
            built[name] = defence
    return tuple(defence for _, defence in pairs if isinstance(defence, str)), built


def _defence_name(defence: Any) -> str:
    own = getattr(defence, "name", None)
    return own if isinstance(own, str) else name_of(defence)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as EvalConfig wants them: one size or radius stands for a tuple of it."""
    known = {name: option for name, option in options().items() if name not in OF_ARGUMENTS}
    for name in given:
        if (other := SPELT.get(name)) in given:
            raise InputError(f"{name} and {other} are the same option; give one")
    given = {SPELT.get(name, name): value for name, value in given.items()}
    for name, value in given.items():
        if name not in known:
            if name in ("rci", "coded", "defence") and isinstance(value, str):  # of the command line
                spec = value if name == "defence" else f"{name}:{value}"
                raise InputError(f"there is no option {name!r}; write defences={spec!r}")
            meant = CALLED_ELSEWHERE.get(name, name)
            choice = did_you_mean(meant, (*ARGUMENTS, *known)).strip()
            raise InputError(f"there is no option {name!r}; {choice or 'choose from ' + ', '.join(known)}")
    return {name: _value(known[name], value) for name, value in given.items()}


def _value(option: Option, given: Any) -> Any:
    """What Python callers may write, text as on the command line or numbers of any library, as a field."""
    value = _plain(given)
    if value is None:
        return None
    if option.several:
        parts = map(_plain, _several(value))
        return sum((option.value([part]) if isinstance(part, str) else (part,) for part in parts), ())
    if option.kind is Path:
        if not isinstance(value, str):
            raise InputError(f"{option.name} {value!r} is not a folder's path")
        return Path(value)
    if option.read is not None and (isinstance(value, str) or option.kind is str):
        return option.value([value])
    return value


def _several(given: Any) -> tuple[Any, ...]:
    """One or several, as a tuple."""
    single = isinstance(given, str) or callable(given) or not isinstance(given, Iterable)
    return (given,) if single else tuple(given)


def _plain(value: Any) -> Any:
    """A number as Python's own, a device and a path as text."""
    return str(value) if isinstance(value, torch.device | PathLike) else plain(value)
