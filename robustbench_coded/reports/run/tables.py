"""The tables of accuracies of a report, before anybody chooses a format: Table 3 and Table 10 of arXiv
2510.00253.

Table 3 has a row per inference method and checkpoint, Table 10 a row per batch size; both have a column
per attack: unperturbed inputs and random signs, the paper's attacks, then the others, by threat model,
and per threat model the ensemble of its attacks. First, which rows of a run stand for a subject.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.attack_names import paper_name
from robustbench_coded.reports.text.formatting import (
    ATTACKED_BY,
    SUBJECT,
    THREAT,
    THREATS,
    Columns,
    TextTable,
    beside_text,
    incomplete_text,
    inference_text,
    interval,
    is_submitted,
    kinds_text,
    papers_attack,
    percent,
    perturbation_text,
    with_interval,
)
from robustbench_coded.schema import words
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel


def main_perturbation(rows: Sequence[SummaryRow]) -> Perturbation | None:
    """The perturbation that most attacks ran under; of several the largest eps."""
    perturbations = [row.perturbation for row in attacked(rows)]
    return max(perturbations, key=lambda b: (perturbations.count(b), b.eps), default=None)


def attacked(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Lines of single attacks that have outcomes."""
    return [
        row for row in rows if row.measured and row.attack not in words.CONTROLS and row.accuracy is not None
    ]


def subjects_of(rows: Iterable[SummaryRow]) -> list[Subject]:
    """Subjects in the order of the run."""
    return list(dict.fromkeys(row.subject for row in rows))


SUBMITTED = "resubmitted"  # the column of the lowest of all perturbed inputs that were made elsewhere


class Column(NamedTuple):
    """One attack under one threat model."""

    attack: str
    threat: ThreatModel

    @property
    def title(self) -> str:
        """``PGD-100 (margin loss)``, with the threat model where it is not that of whole batches."""
        own = {words.CLEAN: "Clean", words.ENSEMBLE: "All attacks", SUBMITTED: "Resubmitted"}
        name = own.get(self.attack) or paper_name(self.attack)
        return name if self.threat == WHOLE_BATCH else f"{name}, {self.threat}"


@dataclass(frozen=True)
class TableCell:
    """One accuracy of a table.

    Attributes:
        line: its line of the summary.
        strongest: whether it is the strongest single attack of its threat model.
        difference: to the same attack on the subject that this one is compared with.
    """

    line: SummaryRow
    strongest: bool
    difference: Difference | None = None

    def texts(self, examples: int) -> list[tuple[str, bool]]:
        """Text of the cell, piece by piece, and whether it is bold: the accuracy, its interval, and its
        number of examples where it is not ``examples``.
        """
        line = self.line
        parts = [(percent(line.accuracy), self.strongest)]
        if line.low is not None:
            parts.append((interval(line.low, line.high, line.interval_kind), False))
        if line.interval is not None and (beside := beside_text(line.interval)):
            parts.append((beside, False))
        if not line.done:
            parts.append((incomplete_text(line.examples, line.examples_planned), False))
        elif line.examples != examples:
            parts.append((f"n = {line.examples:,}", False))
        if line.faulty:
            parts.append((f"{line.faulty:,} faulty", False))
        return parts


@dataclass(frozen=True)
class TableRow:
    """A subject and its cells, one per column; None where an attack was not run on it. ``ends`` are texts
    behind them.
    """

    subject: Subject
    labels: tuple[str, ...]
    cells: tuple[TableCell | None, ...]
    ends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Accuracies under one perturbation; ``heads`` are the titles of the rows' labels, ``ends`` those of the
    texts behind their cells.
    """

    title: str
    perturbation: Perturbation
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    ends: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        """On how many examples most of its accuracies rest; another number stands beside its accuracy."""
        cells = [cell for row in self.rows for cell in row.cells if cell is not None and cell.line.examples]
        return Counter(cell.line.examples for cell in cells).most_common(1)[0][0] if cells else 0

    @property
    def kinds(self) -> str:
        """A legend of the kinds of its intervals."""
        return kinds_text({cell.line.interval_kind for row in self.rows for cell in row.cells if cell})

    def of_columns(self, places: Sequence[int]) -> "Table":
        """The table with some of its columns, in the order given."""
        rows = tuple(replace(row, cells=tuple(row.cells[place] for place in places)) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in places), rows=rows)

    def by_attack(self) -> TextTable:
        """A row per attack, a column per subject."""
        heads = [
            " ".join(f"{head} = {label}" if label.isdecimal() else label for head, label in named)
            for named in (zip(self.heads, row.labels, strict=True) for row in self.rows)
        ]
        rows = []
        for i, column in enumerate(self.columns):
            cells = [row.cells[i] for row in self.rows]
            pieces = [[] if cell is None else cell.texts(self.examples) for cell in cells]
            rows.append((column.title, *(" ".join(text for text, _ in of) for of in pieces)))
        rows += zip(self.ends, *(row.ends for row in self.rows), strict=True)
        return TextTable(("Attack", *heads), tuple(rows), frozenset(heads))


def tables_of(run: Run) -> list[Table]:
    """Table 3 for every perturbation, then Table 10 for every defence that was run at several batch sizes."""
    rows = run.rows
    judged = run.manifest.judged_perturbations
    perturbations = list(dict.fromkeys(row.perturbation for row in rows if row.perturbation in judged))
    perturbations = perturbations or list(dict.fromkeys(row.perturbation for row in rows))
    subjects = list(dict.fromkeys(row.subject for row in rows))
    swept = {
        pair: [s for s in subjects if (s.checkpoint, s.defence) == pair]
        for pair in dict.fromkeys((s.checkpoint, s.defence) for s in subjects)
    }
    swept = {pair: group for pair, group in swept.items() if len({s.k for s in group}) > 1}
    build = TableBuilder(rows)
    main = _at_one_batch_size(subjects, {s for group in swept.values() for s in group})
    tables = [build.table(f"Accuracy under attack: {perturbation_text(b)}", b, main) for b in perturbations]
    for (checkpoint, _), group in swept.items():
        group = sorted(group, key=lambda s: (s.k or 0, s.n or 0))
        kind = inference_text(group[0].at_any_size)
        for perturbation in perturbations:
            title = f"Accuracy against batch size: {kind} on {checkpoint}, {perturbation_text(perturbation)}"
            tables.append(build.table(title, perturbation, group, by_size=True))
    return [table for table in tables if table.rows]


def _at_one_batch_size(subjects: Sequence[Subject], swept: set[Subject]) -> list[Subject]:
    """Subjects not swept, and those swept at the batch size that most subjects share."""
    sizes = [s.k for s in subjects if s.k is not None]
    main = max(set(sizes), key=lambda k: (sizes.count(k), k), default=None)
    return [s for s in subjects if s not in swept or s.k == main]


class TableBuilder:
    """Picks the lines of one run for cells."""

    def __init__(self, rows: Sequence[SummaryRow]):
        self._lines = {(row.subject, row.perturbation, row.threat, row.attack): row for row in rows}
        # Of whole batches where there are any.
        clean = sorted((r for r in rows if r.attack == words.CLEAN), key=lambda r: r.threat.one_victim)
        self._clean = {row.subject: row for row in reversed(clean)}

    def table(
        self, title: str, perturbation: Perturbation, subjects: Sequence[Subject], *, by_size: bool = False
    ) -> Table:
        """One table; subjects without a row under this perturbation are left out."""
        under = [
            row for key, row in self._lines.items() if key[0] in set(subjects) and key[1] == perturbation
        ]
        present = {row.subject for row in under if row.attack != words.CLEAN} or {
            row.subject for row in under
        }
        columns = columns_of(under)
        with_k = len({s.k for s in subjects if s.k is not None}) > 1
        rows = []
        for s in by_inference(subjects):
            labels = (str(s.k), str(s.n)) if by_size else (inference_text(s, with_k=with_k), s.checkpoint)
            if s in present:
                rows.append(TableRow(s, labels, tuple(self.cell(s, perturbation, c) for c in columns)))
        heads = ("K", "N") if by_size else ("Defence", "Network")
        return Table(title, perturbation, heads, columns, tuple(rows))

    def cell(self, subject: Subject, perturbation: Perturbation, column: Column) -> TableCell | None:
        """The accuracy of one subject under one attack; None where that was not run."""
        if column.attack == words.CLEAN:
            row = self._clean.get(subject)
        elif column.attack == SUBMITTED:
            # The worst of the perturbed inputs that were made elsewhere: tables have one column for them.
            under = (subject, perturbation, column.threat)
            made = [r for key, r in self._lines.items() if key[:3] == under and is_submitted(r.attack)]
            row = min(made, key=lambda r: 1.0 if r.accuracy is None else r.accuracy, default=None)
        else:
            row = self._lines.get((subject, perturbation, column.threat, column.attack))
        if row is None:
            return None
        best = self._lines.get((subject, perturbation, column.threat, words.STRONGEST))
        strongest = (
            best is not None and best.strongest_attack == row.attack and row.attack not in words.CONTROLS
        )
        return TableCell(row, strongest)


def columns_of(rows: Iterable[SummaryRow]) -> tuple[Column, ...]:
    """Controls, the paper's attacks, then by threat model the other attacks and the ensemble."""
    attacks = [
        Column(row.attack, row.threat) for row in rows if row.attack not in (*words.CONTROLS, *words.COMBINED)
    ]
    attacks = [c._replace(attack=SUBMITTED) if is_submitted(c.attack) else c for c in attacks]
    attacks = list(dict.fromkeys(attacks))
    controls = [Column(words.CLEAN, WHOLE_BATCH)]
    if any(row.attack == words.RANDOM_SIGN for row in rows):
        controls.append(Column(words.RANDOM_SIGN, WHOLE_BATCH))
    threats = [t for t in THREATS if any(c.threat == t for c in attacks)]
    threats += dict.fromkeys(c.threat for c in attacks if c.threat not in THREATS)
    columns = controls
    for threat in threats:
        of_threat = [c for c in attacks if c.threat == threat]
        columns += sorted(of_threat, key=lambda c: (papers_attack(c.attack) is None, c.attack == SUBMITTED))
        columns.append(Column(words.ENSEMBLE, threat))
    return tuple(columns)


def by_inference(subjects: Sequence[Subject]) -> list[Subject]:
    """Standard inference first, then defences as in the run, by K and N; checkpoints of each together."""
    kinds = list(dict.fromkeys(s.defence for s in subjects))
    checkpoints = list(dict.fromkeys(s.checkpoint for s in subjects))

    def place(s: Subject) -> tuple[bool, int, int, int, int]:
        return (
            s.defence != words.STANDARD,
            kinds.index(s.defence),
            s.k or 0,
            s.n or 0,
            checkpoints.index(s.checkpoint),
        )

    return sorted(subjects, key=place)


WIDTH = 9  # columns of accuracies


def narrowed(table: Table) -> Table:
    """Clean inputs, FGSM and PGD, the attacks that were the strongest on a subject, and all attacks together.

    Of several threat models, that of whole batches: verdicts under others have a table of their own.
    """
    whole = any(c.threat == WHOLE_BATCH and c.attack not in words.CONTROLS for c in table.columns)
    ranks = {}
    for place, column in enumerate(table.columns):
        strongest = any(cell.strongest for row in table.rows if (cell := row.cells[place]) is not None)
        if column.threat == WHOLE_BATCH or not whole:
            ranks[place] = _rank(column, strongest=strongest)
    chosen = sorted((place for place in ranks if ranks[place] < _LEFT_OUT), key=ranks.__getitem__)[:WIDTH]
    order = sorted(chosen, key=lambda place: (table.columns[place].attack == words.ENSEMBLE, place))
    return table.of_columns(order)


_LEFT_OUT = 4  # the rank of what a narrow table has no column for


def _rank(column: Column, *, strongest: bool) -> int:
    if column.attack in (words.CLEAN, words.ENSEMBLE):
        return 0
    if strongest:
        return 1
    return 2 if papers_attack(column.attack) else _LEFT_OUT


def row_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """The lines of summary.csv, accuracies in percent; figures that no line has are left out."""
    figures = {name: figure for name, figure in _FIGURES.items() if any(figure(row) for row in lines)}
    status: Columns[SummaryRow] = {"Status": lambda row: "done" if row.done else "incomplete"}
    return TextTable.of(lines, {**SUBJECT, **THREAT, **ATTACKED_BY, **figures, **status}, figures)


_FIGURES: dict[str, Callable[[SummaryRow], str]] = {
    "Examples": lambda line: (
        str(line.examples) if line.done else f"{line.examples} of {line.examples_planned}"
    ),
    "Draws": lambda line: str(line.draws),
    "Accuracy": lambda line: with_interval(line.interval, missing="–"),
    "Majority": lambda line: percent(line.majority),
    "Every draw": lambda line: percent(line.every_draw),
    "Reaches its target": lambda line: with_interval(line.reached),
    "Clean accuracy": lambda line: percent(line.clean_accuracy),
    "Forwards": lambda line: "–" if line.forwards is None else f"{line.forwards:.4g}",
    "Backwards": lambda line: "–" if line.backwards is None else f"{line.backwards:.4g}",
}
