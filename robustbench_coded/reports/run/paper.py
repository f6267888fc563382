"""The numbers that arXiv 2510.00253 has for the settings of a run."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from robustbench_coded.reports.text.formatting import papers_attack
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import STANDARD

# The paper's N = 1.5 K at K = 128 is printed as 190; rounded it is 192.
SAME_N = {192: 190}


@cache
def printed(package: str) -> dict[str, Any]:
    """The paper's tables that a package of ours has in its paper.toml, as printed."""
    return tomllib.loads(files(f"robustbench_coded.{package}").joinpath("paper.toml").read_text())


def paper_tables() -> dict[str, Any]:
    """Tables 3 and 10 as printed; accuracies in percent."""
    return printed("reports.run")


def papers_set(data: str) -> str | None:
    """``cifar10`` or ``cifar100`` for data of that name, or in a file of that name; None for any other."""
    if data.startswith("npz:"):
        stem = re.split(r"[/\\]", data)[-1].lower().replace("-", "")
        return next((name for name in ("cifar100", "cifar10") if name in stem), None)
    return data if data in ("cifar10", "cifar100") else None


def papers_data(manifest: RunManifest) -> bool:
    """True if the run's data are the paper's: CIFAR-10, by its name or by that of the file and the
    images' shape."""
    name, papers = str(manifest.identity.data), paper_tables()["data"]
    like = manifest.data.classes == 10 and manifest.data.image_shape == (3, 32, 32)
    return name == papers or (like and papers_set(name) == papers)


def trainings(manifest: RunManifest) -> dict[str, str]:
    """The paper's name for how each checkpoint was trained: by the file's metadata, else by the
    checkpoint's name. None of the paper's networks was trained behind a defence."""
    names = {}
    for checkpoint in manifest.checkpoints:
        if checkpoint.metadata.get("defence"):
            continue
        recipe = checkpoint.metadata.get("recipe")
        recipe = recipe.get("name") if isinstance(recipe, dict) else recipe
        training = _training(recipe if isinstance(recipe, str) else checkpoint.name)
        if training is not None:
            names[checkpoint.name] = training
    return names


def papers_accuracy(
    training: str | None, subject: Subject, perturbation: Perturbation, threat: ThreatModel, attack: str
) -> float | None:
    """The paper's accuracy on CIFAR-10 in this setting as a fraction; None where the paper has no such
    setting.

    The same training method, inference, K, N, eps and attack make the same setting; the network may
    differ, which the reports say.
    """
    tables = paper_tables()
    name = papers_attack(attack)
    same_perturbation = perturbation.norm == "linf" and abs(perturbation.eps - tables["eps"]) < 1e-6
    if training is None or name is None or threat != WHOLE_BATCH:
        return None
    if name != "clean" and not same_perturbation:
        return None
    figures = _table3(subject, training) or _table10(subject, training)
    return round(figures[name] / 100, 6) if figures and name in figures else None


def _table3(subject: Subject, training: str) -> dict[str, float] | None:
    table = paper_tables()["table3"]
    if subject.defence == STANDARD:
        rows = table["standard"]
    elif subject.defence == "rci" and subject.k == table["k"] and subject.n is not None:
        rows = table["rci"].get(str(SAME_N.get(subject.n, subject.n)), {})
    else:
        return None
    return dict(zip(table["columns"], rows[training], strict=True)) if training in rows else None


def _table10(subject: Subject, training: str) -> dict[str, float] | None:
    table = paper_tables()["table10"]
    if subject.defence != "rci" or training != table["training"]:
        return None
    for k, n, *figures in table["rows"]:
        if (subject.k, subject.n) == (k, n):
            return dict(zip(table["columns"], figures, strict=True))
    return None


def _training(text: str) -> str | None:
    parts = set(re.split("[^a-z0-9]+", text.lower()))
    if {"manifold", "mixup"} <= parts:
        return "manifold-mixup"
    named = parts & {"erm", "mixup", "coded"}
    return named.pop() if len(named) == 1 else None
