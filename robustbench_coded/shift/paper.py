"""Table 5 of arXiv 2510.00253 beside the same setting of a run."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

_SETS = {
    "CIFAR-10-C (ours)": "CIFAR-10-C",
    "CIFAR-10-C (published)": "CIFAR-10-C",
    "CIFAR-10.1": "CIFAR-10.1",
    "CIFAR-10.2": "CIFAR-10.2",
    "ImageNet-R": "ImageNet-R",
}
# What each of the paper's figures is over. It does not say which version of CIFAR-10.1.
_OVER = {
    "CIFAR-10-C": ("mean of 19",),
    "CIFAR-10.1": ("v4", "v6"),
    "CIFAR-10.2": ("test",),
    "ImageNet-R": ("test",),
}


@cache
def table5() -> dict[str, Any]:
    """Table 5 as printed, in percent."""
    return tomllib.loads(files("robustbench_coded.shift").joinpath("paper.toml").read_text())


BESIDE_PAPER = (
    f"Paper: Table 5 of arXiv 2510.00253, mean over seeds, a {table5()['network']} trained for "
    "350 epochs; its CIFAR-10-C is the published one. Another network and another training: compare the "
    "order, not the values."
)


def papers_mean(collection: str, over: str, training: str | None) -> float | None:
    """The paper's accuracy as a fraction; None where it has no such setting."""
    table = _SETS.get(collection)
    if table is None or over not in _OVER[table] or training not in table5()[table]:
        return None
    return round(table5()[table][training][0] / 100, 6)
