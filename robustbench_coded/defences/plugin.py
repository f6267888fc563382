"""Defences that users bring: a function of their own code is called with the model and returns one."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attacks.adapters.user_modules import own_folders_first, takes
from robustbench_coded.defences.inferences import GaussianNoise, MixupInference, ResizePad, Standard
from robustbench_coded.defences.options import (
    CODED,
    PIPED,
    DefenceSpec,
    installed,
    mixes_images,
    parse_defence,
)
from robustbench_coded.defences.per_batch import PerBatch
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.defences.sampling import SamplingModule, seeded_globally
from robustbench_coded.errors import InputError, described
from robustbench_coded.extensions import load
from robustbench_coded.models.external_architectures import beside, import_function, shown_name
from robustbench_coded.models.in_memory import NetworkInMemory, is_function
from robustbench_coded.user_code import UserCode

_ATTRIBUTES: dict[str, tuple[Any, str]] = {
    "name": (str, "str"),
    "randomised": (bool, "bool"),
    "batch_dependent": (bool, "bool"),
    "base": (nn.Module | None, "a model or None"),
}
_OPTIONAL_ATTRIBUTES: dict[str, tuple[Any, str]] = {
    "abstain": (int, "the index of a class or None"),
    "remembers": (bool, "bool"),
    "identity": (str | nn.Module, "str"),  # of networks that are defences it may be a layer
}
_METHODS: dict[str, tuple[str, ...]] = {"sample": ("generator", "k"), "logits": ("x", "draw")}
_OPTIONAL: dict[str, tuple[str, ...]] = {"reset": (), "fit": ("x",)}


def load_user_defence(target: str, model: nn.Module) -> Defence:
    """Calls the user's function with ``model`` and returns its result as a defence.

    Args:
        target: ``package.module:function`` (the current folder is searched, too) or ``file.py:function``.
        model: from pixels [B, C, H, W] in [0, 1] to logits [B, classes].

    The function may return an object with the attributes and
    methods of ``protocol.Defence``, or an ``nn.Module`` or a function that samples inside itself, which
    becomes a ``SamplingModule``.

    Raises:
        InputError: the function is not found or fails, or its result lacks a part of the protocol.
    """
    user_code = UserCode()
    with user_code:
        build = import_function(target, "--defence")
    try:
        # Weights that it draws are the same in every worker, and in the run that goes on tomorrow.
        with user_code, own_folders_first(*beside(target)), seeded_globally(0):
            built = build(model)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's function can fail in any way
        raise InputError(f"--defence {target}: it raised {described(error)}") from error
    defence = as_defence(built, model, name=shown_name(target), origin=f"--defence {target}: it returned")
    defence.user_code = user_code
    return defence


def as_defence(built: Any, model: nn.Module | None, *, name: str, origin: str) -> PerBatch | SamplingModule:
    """Wraps what a user built around ``model`` as a defence.

    Args:
        built: an object with the parts of ``protocol.Defence``, or a module or function that answers images
            and may sample inside.
        name: of a module that has none.
        origin: how a refusal begins.
    Raises:
        InputError: it lacks a part of the protocol.
    """
    speaks_protocol = all(callable(getattr(built, method, None)) for method in _METHODS)
    if is_function(built) and not speaks_protocol:
        built = NetworkInMemory(built)
    is_module = isinstance(built, nn.Module) and not speaks_protocol
    if wrong := _unshown(built) if is_module else _faults(built):
        raise InputError(f"{origin} {type(built).__name__}, {'; '.join(wrong)}; see docs/your-defence.md")
    return SamplingModule(built, model, name=name) if is_module else PerBatch(built)


def _unshown(built: Any) -> list[str]:
    """What is wrong with a name that is text, in words; in names of attacks a slash comes after it."""
    name = getattr(built, "name", None)
    wrong = isinstance(name, str) and not (name and name.isprintable() and "/" not in name)
    mend = "which no table can show: take a printable one without a slash"
    return [f"whose 'name' is {str(name)[:40]!r}, {mend}"] * wrong


def _faults(built: Any) -> list[str]:
    """What keeps an object from being a ``Defence``, in words."""
    parts = {name: getattr(built, name, None) for name in (*_METHODS, *_OPTIONAL)}
    missing = [name for name in _ATTRIBUTES if not hasattr(built, name)]
    missing += [f"{name}({', '.join(given)})" for name, given in _METHODS.items() if parts[name] is None]
    faults = [f"which lacks {', '.join(missing)}"] if missing else []
    for name, (kind, meant) in {**_ATTRIBUTES, **_OPTIONAL_ATTRIBUTES}.items():
        value = getattr(built, name, None)
        absent = not hasattr(built, name) or (value is None and name in _OPTIONAL_ATTRIBUTES)
        if not absent and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            faults.append(f"whose {name!r} is {type(value).__name__}, not {meant}")
    faults += _unshown(built)
    if getattr(built, "remembers", False) is True and parts["reset"] is None:
        faults.append("which remembers and has no reset()")
    for name, arguments in {**_METHODS, **_OPTIONAL}.items():
        method = parts[name]
        if method is not None and not callable(method):
            faults.append(f"whose {name} is {type(method).__name__}, not a method ({', '.join(arguments)})")
        elif method is not None and not takes(method, len(arguments), {}):
            faults.append(f"whose {name} does not take ({', '.join(arguments)})")
    return faults


INFERENCES: dict[str, Callable[..., Defence]] = {
    "standard": Standard,
    "coded": Coded,
    "rci": RCI,
    "noise": GaussianNoise,
    "resize-pad": ResizePad,
    "mixup-inference": MixupInference,
}


def build_defence(
    spec: DefenceSpec | str, model: nn.Module, k: int, *, pool: Callable[[], Tensor] | None = None
) -> Defence:
    """The defence that ``spec`` describes, around ``model``; it has ``spec.resolve_n(k)`` coded inputs.

    Args:
        spec: as parsed, or as text for ``options.parse_defence``.
        model: pixels in [0, 1] -> logits.
        k: size of a full batch.
        pool: gives images [P, C, H, W] that are not evaluated, for the defences that mix them in; on the
            model's device.
    Raises:
        InputError: a defence that cannot be built around this model, or at this k.
    """
    if isinstance(spec, str):
        spec = parse_defence(spec)
    if spec.kind == "plugin":
        target = spec.target or ""
        return (load("processes", "cmd") if target.startswith(PIPED) else load_user_defence)(target, model)
    if mixes_images(spec) and pool is None:
        raise InputError(f"{spec.label} cannot be built without a pool of images that are not evaluated")
    images = (pool(),) if mixes_images(spec) and pool else ()
    if spec.kind not in INFERENCES:
        return installed()[spec.kind].build(model, *images)
    sizes = (k, spec.n) if spec.kind in CODED else ()
    defence = INFERENCES[spec.kind](model, *sizes, *images, **dict(spec.options))
    defence.name = spec.label
    return defence
