"""Table 2 of arXiv 2510.00253 beside generators measured by Inception."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from robustbench_coded.generation.config import PLAIN


@cache
def table2() -> dict[str, Any]:
    """Table 2 as printed, the column of CIFAR-10."""
    return tomllib.loads(files("robustbench_coded.generation").joinpath("paper.toml").read_text())


def has_papers_data(data: str) -> bool:
    """Whether ``--data`` names CIFAR-10: by itself, or by its file's name."""
    kind, _, place = data.partition(":")
    name = PurePath(place).stem if kind == "npz" else data
    return re.match(r"cifar-?10(?!\d)", name.lower()) is not None


def papers_figure(variant: str, figure: str) -> tuple[float, float]:
    """Mean and deviation of ``distance`` (FID) or ``score`` (IS). The paper's coded generator has no N."""
    mean, deviation = table2()["plain" if variant == PLAIN else "coded"][figure]
    return mean, deviation
