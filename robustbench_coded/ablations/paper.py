"""The paper's numbers in the settings that an ablation shares with it."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from robustbench_coded.ablations.point import Point
from robustbench_coded.ablations.settings import AblationSettings
from robustbench_coded.ablations.studies import Study


@cache
def paper_tables() -> dict[str, Any]:
    """Tables 1, 6, 7, 8 and 9 as printed."""
    return tomllib.loads(files("robustbench_coded.ablations").joinpath("paper.toml").read_text())


def papers_figure(study: Study, point: Point, settings: AblationSettings, figure: str) -> float | None:
    """The paper's ``accuracy`` (a fraction) or ``loss`` for a point; None where it has no such setting.

    The same data, recipe, K and N make the same setting; network and epochs may differ, as the report says.
    """
    table = _table(study, settings)
    value = table.get(figure, {}).get(point.paper) if point.paper is not None else None
    return value if value is None or figure == "loss" else round(value / 100, 6)


def papers_row(study: Study) -> dict[str, float]:
    """The accuracies of a study's table on CIFAR-10 in percent, by setting; empty where it has no table."""
    if study.table is None:
        return {}
    table = paper_tables()[study.table.lower().replace(" ", "")]
    figures = table["cifar10"] if study.name == "recipe" else table["accuracy"]
    return {name: value for name, value in figures.items() if name != "network"}


def papers_network(study: Study, settings: AblationSettings) -> str:
    """The architecture that the paper's numbers of this study are for."""
    if study.name == "recipe" and (data := _papers_name(settings.base.data)):
        return str(paper_tables()["table1"][data]["network"])
    return str(paper_tables()["network"])


def _table(study: Study, settings: AblationSettings) -> dict[str, Any]:
    data = _papers_name(settings.base.data)
    if study.table is None or data is None:
        return {}
    table = paper_tables()[study.table.lower().replace(" ", "")]
    if study.name == "recipe":
        return {"accuracy": table[data]}
    return table if data == "cifar10" and settings.k == paper_tables()["k"] else {}


def _papers_name(data: str) -> str | None:
    """``cifar10`` or ``cifar100``, also for a file of that name."""
    if data.startswith("npz:"):
        stem = re.split(r"[/\\]", data)[-1].lower().replace("-", "")
        return next((name for name in ("cifar100", "cifar10") if name in stem), None)
    return data if data in ("cifar10", "cifar100") else None
