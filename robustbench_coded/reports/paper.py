"""The numbers of arXiv 2510.00253 beside the same settings of a run, and what may explain differences."""

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from robustbench_coded.reports.text.formatting import (
    TextTable,
    accuracy_text,
    inference_text,
    parsed_attack,
    percent,
    pixels,
    points,
    series,
)
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.schema.words import CONTROLS, STANDARD
from robustbench_coded.statistics.summary import SummaryRow

# The paper's N = 1.5 K at K = 128 is printed as 190; rounded it is 192.
SAME_N = {192: 190}


@cache
def printed(package: str) -> dict[str, Any]:
    """The paper's tables that a package has in its paper.toml, as printed."""
    return tomllib.loads(files(f"robustbench_coded.{package}").joinpath("paper.toml").read_text())


def paper_tables() -> dict[str, Any]:
    """Tables 3, 4 and 10 as printed; accuracies in percent, times in milliseconds."""
    return printed("reports")


def papers_set(data: str) -> str | None:
    """``cifar10`` or ``cifar100`` for data of that name, or in a file of that name; None for any other."""
    if data.startswith("npz:"):
        stem = re.split(r"[/\\]", data)[-1].lower().replace("-", "")
        return next((name for name in ("cifar100", "cifar10") if name in stem), None)
    return data if data in ("cifar10", "cifar100") else None


def papers_attack(attack: str) -> str | None:
    """The paper's name for an attack that it ran: ``fgsm``, ``pgd-10``, ``pgd-100`` or ``clean``, else None.

    A stated step size is still the paper's attack, which states none.
    """
    if attack == "clean":
        return attack
    name = parsed_attack(attack)
    if name is None or name.third_party or name.options or name.estimator != "fresh" or name.draws > 1:
        return None
    plain = name.algorithm if name.steps is None else f"{name.algorithm}-{name.steps}"
    return plain if plain in ("fgsm", "pgd-10", "pgd-100") else None


def papers_data(manifest: RunManifest) -> bool:
    """Whether the run's data are the paper's: CIFAR-10, by its name or by that of the file and the
    images' shape."""
    name, papers = str(manifest.identity.data), paper_tables()["data"]
    like = manifest.data.classes == 10 and manifest.data.image_shape == (3, 32, 32)
    return name == papers or (like and papers_set(name) == papers)


def trainings(manifest: RunManifest) -> dict[str, str]:
    """The paper's name for how each checkpoint was trained: by the file's metadata, else by the
    checkpoint's name. None of the paper's networks was trained behind a defence."""
    found = {}
    for checkpoint in manifest.checkpoints:
        if checkpoint.metadata.get("defence"):
            continue
        recipe = checkpoint.metadata.get("recipe")
        recipe = recipe.get("name") if isinstance(recipe, dict) else recipe
        training = _training(recipe if isinstance(recipe, str) else checkpoint.name)
        if training is not None:
            found[checkpoint.name] = training
    return found


def papers_accuracy(
    training: str | None, subject: SubjectKey, budget: BudgetKey, threat: ThreatModel, attack: str
) -> float | None:
    """The paper's accuracy on CIFAR-10 in this setting as a fraction; None where the paper has no such
    setting.

    The same training method, inference, K, N, eps and attack make the same setting; the network may
    differ, which the reports say.
    """
    tables = paper_tables()
    name = papers_attack(attack)
    same_budget = budget.norm == "linf" and abs(budget.eps - tables["eps"]) < 1e-6
    if training is None or name is None or threat != WHOLE_BATCH:
        return None
    if name != "clean" and not same_budget:
        return None
    figures = _table3(subject, training) or _table10(subject, training)
    return round(figures[name] / 100, 6) if figures and name in figures else None


def _table3(subject: SubjectKey, training: str) -> dict[str, float] | None:
    table = paper_tables()["table3"]
    if subject.defence == STANDARD:
        rows = table["standard"]
    elif subject.defence == "rci" and subject.k == table["k"] and subject.n is not None:
        rows = table["rci"].get(str(SAME_N.get(subject.n, subject.n)), {})
    else:
        return None
    return dict(zip(table["columns"], rows[training], strict=True)) if training in rows else None


def _table10(subject: SubjectKey, training: str) -> dict[str, float] | None:
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
    def outside(self) -> bool:
        """Whether the paper's number lies outside the measured interval."""
        low, high = self.row.low, self.row.high
        return low is not None and high is not None and not low <= self.paper <= high


def paper_lines(run: Run) -> list[PaperLine]:
    """The rows of a run that the paper has a number for, whatever network they were measured on."""
    if not papers_data(run.manifest):
        return []
    known = trainings(run.manifest)
    found = []
    for row in run.rows:
        training = known.get(row.subject.checkpoint)
        paper = papers_accuracy(training, row.subject, row.budget, row.threat, row.attack)
        if paper is not None and training is not None and row.accuracy is not None:
            table = 3 if row.subject.k in (None, paper_tables()["table3"]["k"]) else 10
            found.append(PaperLine(table, training, row, paper))
    return found


def paper_text_table(run: Run) -> TextTable:
    """Measured beside printed; marked where the printed number is outside the interval."""
    rows = []
    for found in paper_lines(run):
        row = found.row
        assert row.accuracy is not None  # as `paper_lines` takes them
        rows.append(
            (
                f"Table {found.table}",
                row.subject.checkpoint,
                found.training,
                inference_text(row.subject, with_k=True),
                row.attack,
                "" if row.attack == "clean" else f"{pixels(row.budget.eps)} {row.budget.eps_space}",
                percent(found.paper),
                accuracy_text(row.accuracy, row.low, row.high),
                f"{float(points(row.accuracy - found.paper)):+.1f}",
                "differs" if found.outside else "within",
            )
        )
    numbers = ("Paper", "Measured", "Difference")
    heads = ("Table", "Checkpoint", "Training", "Inference", "Attack", "Eps", *numbers, "Interval")
    return TextTable(heads, tuple(rows), frozenset(numbers))


def reasons(run: Run) -> list[str]:
    """What of the setting is known to differ, or may."""
    found = paper_lines(run)
    if not found:
        return [
            "No row of this run has a setting of the paper: CIFAR-10, eps 8/255, K and N of Tables 3 and "
            "10, and a checkpoint whose metadata or name says how it was trained (erm, mixup, "
            "manifold-mixup, coded)."
        ]
    return [*_network(run, found), *_training_reason(run, found), *_attacks(found), *_examples(found)]


def time_text_table(run: Run) -> TextTable:
    """Table 4 beside this run: milliseconds to answer one batch, by its quicker row without gradients."""
    table = paper_tables()["table4"]
    rows = []
    for subject, milliseconds in _answer_times(run).items():
        kind = {"standard": "standard", "rci": "coded", "coded": "coded"}.get(subject.defence)
        paper = f"{table[kind][0]:g}" if kind is not None and subject.k in (None, table["k"]) else "–"
        rows.append((subject.checkpoint, inference_text(subject, with_k=True), paper, f"{milliseconds:.3g}"))
    heads = ("Checkpoint", "Inference", "Paper, ms", "Measured, ms")
    return TextTable(heads, tuple(rows), frozenset(heads[2:]))


def _answer_times(run: Run) -> dict[SubjectKey, float]:
    """Milliseconds that one batch of each subject took, over all draws that were answered.

    The first row of a run also loads the model; hence the quicker of the clean inputs and the random signs.
    """
    found: dict[SubjectKey, float] = {}
    seconds = run.timings["seconds"]
    for row, spent, result in zip(run.rows, seconds, run.results, strict=True):
        size = row.subject.k or _batch_size(run)
        if row.attack in CONTROLS and row.done and spent > 0 and size:
            answers = -(-row.examples // size) * (
                row.draws + (_selection_draws(run) if result.randomised else 0)
            )
            found[row.subject] = min(found.get(row.subject, math.inf), 1000 * spent / answers)
    return found


def _batch_size(run: Run) -> int:
    return max((row.batch_size or 0 for row in run.manifest.rows), default=0)


def _selection_draws(run: Run) -> int:
    return run.manifest.last.count("selection_draws") or 0


def _network(run: Run, found: Sequence[PaperLine]) -> Iterator[str]:
    names = {f.row.subject.checkpoint for f in found}
    archs = {str(c.arch) for c in run.manifest.checkpoints if c.name in names}
    others = sorted(archs - {"preact-resnet18", "preactresnet18", "preact_resnet18"})
    if others:
        yield f"Network: {series(others)} here, {paper_tables()['network']} in the paper."


def _training_reason(run: Run, found: Sequence[PaperLine]) -> Iterator[str]:
    names = {f.row.subject.checkpoint for f in found}
    for checkpoint in run.manifest.checkpoints:
        if checkpoint.name in names:
            epochs = checkpoint.metadata.get("epochs") or checkpoint.metadata.get("epoch")
            said = f"{epochs} epochs" if type(epochs) is int else "an unknown number of epochs"
            yield f"Training length: {said} for {checkpoint.name}, 350 in the paper."


def _attacks(found: Sequence[PaperLine]) -> Iterator[str]:
    spaces = sorted({f.row.budget.eps_space for f in found if f.row.attack != "clean"})
    if spaces:
        yield (
            f"Space of eps: {series(spaces)} here, not stated in the paper. Attacks after normalisation "
            "with the same number are weaker: a step of eps there is eps times each channel's deviation "
            "in pixels."
        )
    steps = {(f.row.attack, f.row.step_size) for f in found if f.row.step_size and "pgd" in f.row.attack}
    if steps:
        said = series([f"{attack} {pixels(size)}" for attack, size in sorted(steps)])
        yield f"Step size: {said} here, not stated in the paper; ten smaller steps reach less far."


def _examples(found: Sequence[PaperLine]) -> Iterator[str]:
    counts = sorted({f.row.examples for f in found})
    draws = sorted({f.row.draws for f in found})
    yield (
        f"Examples: {series([str(c) for c in counts])} here, 10,000 in the paper. Draws: the mean over "
        f"{series([str(d) for d in draws])} here, not stated in the paper."
    )
