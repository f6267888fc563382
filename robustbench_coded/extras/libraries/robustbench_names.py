"""Names of RobustBench's model zoo: the architectures and normalisations that they stand for."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from robustbench_coded.models import normalisation

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
    normalisation: normalisation.Normalisation


def own_definitions(name: str, classes: int | None) -> list[Named]:
    """The definitions known here under ``name``, the most usual first.

    Args:
        name: ``NAME`` or ``DATASET/THREAT/NAME``.
        classes: number of classes of the weights; None where unknown.
    """
    return [
        Named(path, arch, normalisation.parse_normalisation(text, 3))
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
