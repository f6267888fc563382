"""Runs beside the tables of arXiv 2510.00253, for ``csrobust compare --paper``: accuracies (Tables 3 and 10),
what may explain differences, and where the paper contradicts itself.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.render.sections import Bullets, Legend, Section
from robustbench_coded.reports.text.formatting import (
    Columns,
    TextTable,
    inference_text,
    kinds_text,
    papers_attack,
    papers_set,
    percent,
    pixels,
    with_interval,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CLEAN, STANDARD

# The paper's N = 1.5 K at K = 128 is printed as 190; rounded it is 192.
SAME_N = {192: 190}


@cache
def printed(package: str) -> dict[str, Any]:
    """The paper's tables that a package of the ring has in its paper.toml, as printed."""
    return tomllib.loads(files(f"robustbench_coded.paper.{package}").joinpath("paper.toml").read_text())


def paper_tables() -> dict[str, Any]:
    """Tables 3 and 10 as printed; accuracies in percent."""
    return printed("studies")


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


def _training(text: str) -> str | None:
    parts = set(re.split("[^a-z0-9]+", text.lower()))
    if {"manifold", "mixup"} <= parts:
        return "manifold-mixup"
    named = parts & {"erm", "mixup", "coded"}
    return named.pop() if len(named) == 1 else None


TITLE = "{} and arXiv 2510.00253"


def beside_paper(runs: Mapping[str, RunData]) -> list[Section]:
    """A section for each run, by name, and one for the paper itself."""
    sections = [
        Section(
            "paper",
            TITLE.format(name),
            (
                paper_text_table(run),
                Legend(LEGEND.format(kinds=kinds_text({x.row.interval_kind for x in paper_lines(run)}))),
                Legend(DIFFERENCES if paper_lines(run) else NO_ROW),
            ),
        )
        for name, run in runs.items()
    ]
    return [
        *sections,
        Section("inconsistencies", "The paper's own inconsistencies", (Bullets(INCONSISTENCIES),)),
    ]


INCONSISTENCIES = (
    "PGD-10 with coded smoothing and RCI over mixup: +31.8 points in the introduction, +33 in section "
    "6.3, 32.1 by Table 3 (72.0 - 39.9).",
    "PGD-100 over mixup: 37 points in the introduction, +5.4 in section 6.3. By Table 3 the first is "
    "mixup with RCI N = 128 less mixup with standard inference (37.4 - 0.4), the second coded smoothing "
    "with RCI N = 190 less the same (5.8 - 0.4).",
    "RCI N = 190 with coded smoothing at K = 128 has clean accuracy 94.8 in Table 3 and 94.9 in Table 10.",
    "N = 1.5 K at K = 128 is 192; the tables print 190.",
    "Neither the space of eps nor PGD's step size is stated. The numbers for manifold mixup are taken "
    "from another paper, whose code attacks after normalisation.",
)


DIFFERENCES = (
    f"The paper's networks are {paper_tables()['network']} after 350 epochs, on 10,000 examples. It states "
    "neither the space of eps nor PGD's step size nor the number of draws. Attacks after normalisation with "
    "the same eps are weaker: a step of eps there is eps times each channel's deviation in pixels."
)
NO_ROW = (
    "No row of this run has a setting of the paper: CIFAR-10, eps 8/255, K and N of Tables 3 and 10, and a "
    "checkpoint whose metadata or name says how it was trained (erm, mixup, manifold-mixup, coded)."
)
CLOSE = 0.1  # of an accuracy: on other networks, less of a difference is no finding
LEGEND = (
    "agrees: all of the interval lies within 10 points of the paper's number; differs: all of it lies "
    "further away. {kinds}"
)


@dataclass(frozen=True)
class PaperLine:
    """One accuracy beside the paper's.

    Attributes:
        table: 3 or 10.
        paper: the paper's accuracy, a fraction.
    """

    table: int
    training: str
    row: SummaryRow
    paper: float

    @property
    def agreement(self) -> str:
        """``agrees`` if the whole interval lies within `CLOSE` of the paper's number, ``differs`` if all of
        it lies further away, else ``too wide to tell``; ``no interval`` without one.
        """
        if self.row.low is None or self.row.high is None:
            return "no interval"
        low, high = self.row.low - self.paper, self.row.high - self.paper
        if max(-low, high) <= CLOSE:
            return "agrees"
        return "differs" if low > CLOSE or high < -CLOSE else "too wide to tell"


def paper_lines(run: RunData) -> list[PaperLine]:
    """The rows of a run that the paper has a number for, whatever network they were measured on.

    The same training method, inference, K, N, eps and attack make the same setting; the network may differ,
    which the reports say.
    """
    if not papers_data(run.manifest):
        return []
    tables, known, lines = paper_tables(), trainings(run.manifest), []
    for row in run.rows:
        training, attack = known.get(row.subject.checkpoint), papers_attack(row.attack)
        b = row.perturbation
        same_eps = b.norm == "linf" and abs(b.eps - tables["eps"]) < 1e-6
        if training is None or row.threat != WHOLE_BATCH or not (same_eps or attack == CLEAN):
            continue
        number, figures = _figures_of(row.subject, training)
        if attack in figures and row.interval is not None:
            lines.append(PaperLine(number, training, row, round(figures[attack] / 100, 6)))
    return lines


def _figures_of(subject: Subject, training: str) -> tuple[int, dict[str | None, float]]:
    """The number of the paper's table that has this subject, and its row in percent, empty for none."""
    third, tenth = paper_tables()["table3"], paper_tables()["table10"]
    coded = {(k, n): figures for k, n, *figures in tenth["rows"]} if training == tenth["training"] else {}
    rows: dict[str, list[float]] = {}
    if subject.defence == STANDARD:
        rows = third["standard"]
    elif subject.defence == "rci" and subject.k == third["k"] and subject.n is not None:
        rows = third["rci"].get(str(SAME_N.get(subject.n, subject.n)), {})
    elif subject.defence == "rci" and (subject.k, subject.n) in coded:
        return 10, dict(zip(tenth["columns"], coded[subject.k, subject.n], strict=True))
    return 3, dict(zip(third["columns"], rows[training], strict=True)) if training in rows else {}


def paper_text_table(run: RunData) -> TextTable:
    """Measured beside printed, and whether they agree."""
    about: Columns[PaperLine] = {
        "Table": lambda line: f"Table {line.table}",
        "Network": lambda line: line.row.subject.checkpoint,
        "Training": lambda line: line.training,
        "Defence": lambda line: inference_text(line.row.subject, with_k=True),
        "Attack": lambda line: line.row.attack,
        "Eps": lambda line: "" if line.row.attack == "clean" else _eps(line.row.perturbation),
    }
    numbers: Columns[PaperLine] = {
        "Paper": lambda line: percent(line.paper),
        "Measured": lambda line: with_interval(line.row.interval),
        "Difference": lambda line: f"{100 * ((line.row.accuracy or 0.0) - line.paper):+z.1f}",
    }
    mark: Columns[PaperLine] = {"Agreement": lambda line: line.agreement}
    return TextTable.of(paper_lines(run), {**about, **numbers, **mark}, numbers)


def _eps(perturbation: Perturbation) -> str:
    return f"{pixels(perturbation.eps)} {perturbation.eps_space}"
