"""Names of RobustBench's model zoo: those of our own architectures with their normalisations, and definitions
out of its package.
"""

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, partial
from importlib import resources
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from robustbench_coded.errors import InputError
from robustbench_coded.extras.libraries.definitions import Definition, called, fitted, sizes
from robustbench_coded.models.external_architectures import Assembled
from robustbench_coded.models.loading import assemble
from robustbench_coded.models.normalisation import Normalisation, parse_normalisation
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import StateDict

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


@dataclass(frozen=True)
class Named:
    """A definition as an architecture and a normalisation.

    Attributes:
        path: ``DATASET/THREAT/NAME``.
        arch: as ``--arch`` takes it.
        normalisation: of pixels in [0, 1].
    """

    path: str
    arch: str
    normalisation: Normalisation


def own_definitions(name: str, classes: int | None) -> list[Named]:
    """The definitions known here under ``name``, the most usual first.

    Args:
        name: ``NAME`` or ``DATASET/THREAT/NAME``.
        classes: number of classes of the weights; None where unknown.
    """
    return [
        Named(path, arch, parse_normalisation(text, 3))
        for dataset, threats in _table().items()
        for threat, members in threats.items()
        for known, (arch, text) in members.items()
        if name == (path := f"{dataset}/{threat}/{known}")
        or (name == known and classes in (None, CLASSES[dataset]))
    ]


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, tuple[str, str]]]]:
    file = resources.files("robustbench_coded.extras.libraries").joinpath("robustbench_names.toml")
    return tomllib.loads(file.read_text("utf-8"))


THREATS = ("Linf", "L2", "corruptions")


def robustbench(name: str, weights: StateDict, checkpoint: Path, metadata: dict[str, Any]) -> Assembled:
    """A definition of RobustBench: one of our own architectures where it is one, else its package's."""
    refused: list[Refused | InputError] = []
    for own in own_definitions(name, sizes(weights, {})[0]):
        try:
            assembled = assemble(own.arch, weights, checkpoint, {})
        except (Refused, InputError) as error:
            refused.append(error)
            continue
        note = f"robustbench:{own.path} is {own.arch} with the normalisation {own.normalisation}"
        recognised = replace(assembled.recognised, notes=(*assembled.recognised.notes, note))
        return replace(assembled, recognised=recognised, stated=own.normalisation)
    try:
        path, constructor = entry(name, sizes(weights, metadata)[0])
        return fitted(f"robustbench:{path}", robustbench_definition(path, constructor), weights)
    except InputError as error:
        raise (refused[0] if refused else error) from None


def entry(name: str, classes: int | None) -> tuple[str, Callable[[], Any]]:
    """The definition that ``name`` stands for: "cifar10/Linf/NAME", and its constructor.

    Args:
        name: ``NAME`` or ``DATASET/THREAT/NAME``.
        classes: number of classes of the weights, which tells the data sets apart; None where unknown.
    Raises:
        InputError: the package is not installed, or has none or several definitions of that name.
    """
    constructors = zoo()
    named = [path for path in constructors if name in (path, path.rpartition("/")[2])]
    if not named:
        names = {path.rpartition("/")[2] for path in constructors}
        near = get_close_matches(name.rpartition("/")[2], names, n=3) or sorted(names)[:3]
        raise InputError(
            f"--arch robustbench:{name}: its zoo has no such definition; closest: {', '.join(near)}"
        )
    path, *others = [path for path in named if CLASSES[path.partition("/")[0]] == classes] or named
    if others:
        raise InputError(
            f"--arch robustbench:{name}: its zoo has {', '.join([path, *others])}; name one of them"
        )
    return path, constructors[path]


def robustbench_definition(path: str, constructor: Callable[[], Any]) -> Definition:
    """The network of one of `entry`, from pixels in [0, 1] to logits, without weights.

    Raises:
        InputError: it cannot be built here.
    """
    dataset = path.partition("/")[0]

    def build() -> Any:
        with _timm_without_weights(), redirect_stdout(StringIO()):
            return constructor()

    network = called(f"robustbench:{path}", build)
    return Definition(
        network,
        CLASSES[dataset],
        image_size=32 if dataset.startswith("cifar") else None,
        from_pixels=True,
        notes=(f"robustbench:{path} is RobustBench's definition, with the normalisation that it has inside",),
    )


def zoo() -> dict[str, Callable[[], Any]]:
    """Constructors by ``DATASET/THREAT/NAME``."""
    module, timm = _zoo_module(), sys.modules.get("timm")
    constructors: dict[str, Callable[[], Any]] = {}
    for dataset, threats in module.model_dicts.items():
        for threat, members in threats.items():
            for name, definition in members.items() if threat.value in THREATS else ():
                build = definition["model"]
                registered = f"{name}_{dataset.value}_{threat.value}".lower().replace("-", "_")
                if timm is not None and timm.is_model(registered):  # by the zoo, under its own name
                    classes = CLASSES[dataset.value]
                    build = partial(timm.create_model, registered, pretrained=False, num_classes=classes)
                constructors[f"{dataset.value}/{threat.value}/{name}"] = build
    return constructors


def _zoo_module() -> ModuleType:
    if "robustbench.model_zoo" in sys.modules:
        return sys.modules["robustbench.model_zoo"]
    spec = importlib.util.find_spec("robustbench")
    if spec is None or spec.submodule_search_locations is None:
        raise InputError(
            "--arch robustbench:NAME: this definition is taken from the package robustbench, which is not "
            "installed here; pip install robustbench, or name an architecture of `csrobust list models`"
        )
    bare = ModuleType("robustbench")
    bare.__path__ = list(spec.submodule_search_locations)
    before = sys.modules.get("robustbench")
    sys.modules["robustbench"] = bare
    try:
        with redirect_stdout(StringIO()):
            return importlib.import_module("robustbench.model_zoo")
    except Exception as error:  # it imports a dozen packages, any of which can be missing or too new
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--arch robustbench:NAME: the package robustbench does not import ({type(error).__name__}: "
            f"{reason}); mend that installation, or name an architecture of `csrobust list models`"
        ) from error
    finally:
        if before is None:
            del sys.modules["robustbench"]
        else:
            sys.modules["robustbench"] = before


@contextmanager
def _timm_without_weights() -> Iterator[None]:
    """Inside, timm builds networks without pretrained weights, whatever its arguments."""
    timm = sys.modules.get("timm")
    if timm is None:
        yield
        return
    create = timm.create_model

    def without_weights(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **{**options, "pretrained": False})

    with mock.patch.object(timm, "create_model", without_weights):
        yield
