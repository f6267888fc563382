"""Runs beside the tables of arXiv 2510.00253, for ``csrobust compare --paper``: accuracies (Tables 3 and 10),
times (Table 4), what may explain differences, and where the paper contradicts itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attacks.presets import ONE_STEP
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.paper.studies.paper import paper_tables, papers_accuracy, papers_data, trainings
from robustbench_coded.reports.render.sections import Bullets, Legend, Section
from robustbench_coded.reports.text.formatting import (
    Columns,
    TextTable,
    accuracy_text,
    inference_text,
    percent,
    pixels,
    series,
)
from robustbench_coded.schema.case import Perturbation, Subject
from robustbench_coded.schema.words import CONTROLS

TITLE = "{} and arXiv 2510.00253"


def beside_paper(runs: Mapping[str, Run]) -> list[Section]:
    """A section for each run, by name, and one for the paper itself."""
    sections = [
        Section(
            "paper",
            TITLE.format(name),
            (
                paper_text_table(run),
                Legend("Answering one batch (Table 4, on other hardware):"),
                time_text_table(run),
                Legend("Known reasons for differences:"),
                Bullets(tuple(reasons(run))),
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
        paper = papers_accuracy(training, row.subject, row.perturbation, row.threat, row.attack)
        if paper is not None and training is not None and row.accuracy is not None:
            table = 3 if row.subject.k in (None, paper_tables()["table3"]["k"]) else 10
            found.append(PaperLine(table, training, row, paper))
    return found


def paper_text_table(run: Run) -> TextTable:
    """Measured beside printed; marked where the printed number is outside the interval."""
    about: Columns[PaperLine] = {
        "Table": lambda line: f"Table {line.table}",
        "Checkpoint": lambda line: line.row.subject.checkpoint,
        "Training": lambda line: line.training,
        "Inference": lambda line: inference_text(line.row.subject, with_k=True),
        "Attack": lambda line: line.row.attack,
        "Eps": lambda line: "" if line.row.attack == "clean" else _eps(line.row.perturbation),
    }
    numbers: Columns[PaperLine] = {
        "Paper": lambda line: percent(line.paper),
        "Measured": lambda line: accuracy_text(line.row.accuracy, line.row.low, line.row.high),
        "Difference": lambda line: f"{100 * ((line.row.accuracy or 0.0) - line.paper):+.1f}",
    }
    mark: Columns[PaperLine] = {"Interval": lambda line: "differs" if line.outside else "within"}
    return TextTable.of(paper_lines(run), {**about, **numbers, **mark}, numbers)


def _eps(perturbation: Perturbation) -> str:
    return f"{pixels(perturbation.eps)} {perturbation.eps_space}"


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


def _answer_times(run: Run) -> dict[Subject, float]:
    """Milliseconds that one batch of each subject took, over all draws that were answered.

    The first row of a run also loads the model; hence the quicker of the clean inputs and the random signs.
    """
    found: dict[Subject, float] = {}
    seconds = run.timings["seconds"]
    largest = max((row.batch_size or 0 for row in run.manifest.cases), default=0)
    selection = run.manifest.last.count("selection_draws") or 0
    for row, spent, result in zip(run.rows, seconds, run.results, strict=True):
        size = row.subject.k or largest
        if row.attack in CONTROLS and row.done and spent > 0 and size:
            draws = row.draws + (selection if result.randomised else 0)
            answers = -(-row.examples // size) * draws
            found[row.subject] = min(found.get(row.subject, math.inf), 1000 * spent / answers)
    return found


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
    spaces = sorted({f.row.perturbation.eps_space for f in found if f.row.attack != "clean"})
    if spaces:
        yield (
            f"Space of eps: {series(spaces)} here, not stated in the paper. Attacks after normalisation "
            "with the same number are weaker: a step of eps there is eps times each channel's deviation "
            "in pixels."
        )
    steps = {(f.row.attack, f.row.step_size) for f in found if f.row.step_size and f.row.attack != ONE_STEP}
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
