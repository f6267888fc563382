"""Defences that other packages bring under a name: they register here, so that none of them is imported.

register({"coin-flip": build})      build(model) -> Defence
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

BUILDERS: dict[str, Callable[..., Any]] = {}
POOLED: set[str] = set()  # those whose builder takes images that are not evaluated, too


def register_pooled(names: Iterable[str]) -> None:
    """Says that the builders of these names take a pool of images as a second argument."""
    POOLED.update(names)


def register(builders: Mapping[str, Callable[..., Any]]) -> None:
    """Makes these names known to ``--defence``; each builds a defence around a model.

    Raises:
        ValueError: a name that another package has taken.
    """
    for name, build in builders.items():
        if BUILDERS.setdefault(name, build) != build:
            raise ValueError(f"expected a new name of a defence, got {name!r}, which is taken")
