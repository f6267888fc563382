"""Runs beside the tables of arXiv 2510.00253, for ``csrobust compare --paper``: accuracies (Tables 3 and 10),
what may explain differences, and where the paper contradicts itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.render.sections import Bullets, Legend, Section
from robustbench_coded.reports.run.paper import paper_tables, papers_accuracy, papers_data, trainings
from robustbench_coded.reports.text.formatting import (
    Columns,
    TextTable,
    inference_text,
    kinds_text,
    percent,
    pixels,
    with_interval,
)
from robustbench_coded.schema.case import Perturbation

TITLE = "{} and arXiv 2510.00253"


def beside_paper(runs: Mapping[str, Run]) -> list[Section]:
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


def paper_lines(run: Run) -> list[PaperLine]:
    """The rows of a run that the paper has a number for, whatever network they were measured on."""
    if not papers_data(run.manifest):
        return []
    known = trainings(run.manifest)
    lines = []
    for row in run.rows:
        training = known.get(row.subject.checkpoint)
        paper = papers_accuracy(training, row.subject, row.perturbation, row.threat, row.attack)
        if paper is not None and training is not None and row.interval is not None:
            table = 3 if row.subject.k in (None, paper_tables()["table3"]["k"]) else 10
            lines.append(PaperLine(table, training, row, paper))
    return lines


def paper_text_table(run: Run) -> TextTable:
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
