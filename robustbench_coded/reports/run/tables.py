"""The tables of accuracies of a report, before anybody chooses a format: Table 3 and Table 10 of arXiv
2510.00253.

Table 3 has a row per inference method and checkpoint, Table 10 a row per batch size. Both have the same
columns: unperturbed inputs; the standard attacks and those that were typed; the strongest of all others where
it is stronger; the worst case. The columns of an attacker who knows the draw follow, with a worst case of
their own.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import NamedTuple

from attacks.attack import Attack
from attacks.presets import NAMED, PRESETS
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.attack_names import attack_in_words, draw_word, paper_name
from robustbench_coded.reports.text.formatting import (
    ATTACKED_BY,
    SUBJECT,
    THREAT,
    Columns,
    TextTable,
    batches_text,
    incomplete_text,
    inference_text,
    interval,
    parsed_attack,
    percent,
    perturbation_text,
    with_interval,
)
from robustbench_coded.schema import words
from robustbench_coded.schema.case import INPUTS, RANDOMNESS, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.manifest import CaseRecord, RunManifest

DASH, NOT_RUN = "–", "not run"


def main_perturbation(rows: Sequence[SummaryRow]) -> Perturbation | None:
    """The perturbation that most attacks ran under; of several the largest eps."""
    attacked = [r for r in rows if r.measured and r.attack not in words.CONTROLS and r.accuracy is not None]
    perturbations = [row.perturbation for row in attacked]
    return max(perturbations, key=lambda b: (perturbations.count(b), b.eps), default=None)


def subjects_of(rows: Iterable[SummaryRow]) -> list[Subject]:
    """Subjects in the order of the run."""
    return list(dict.fromkeys(row.subject for row in rows))


class Column(NamedTuple):
    """One attack under one threat model, or the worst case of all of them.

    Attributes:
        attack: its name; `strongest` for the strongest of the attacks that have no column.
        title: a head such as ``PGD-100 (margin loss)``, ``PGD-10, order known`` or ``Worst case``.
        besides: of `strongest` the attacks that have columns; a cell has a figure where another is stronger.
    """

    attack: str
    threat: ThreatModel
    title: str
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableCell:
    """One accuracy of a table.

    Attributes:
        line: its line of the summary; None where it has no figure, and then ``absent`` is why: a dash where
            the attack does not apply, ``not run`` where it was left out.
        strongest: whether it is the strongest single attack of its threat model.
        difference: to the same attack on the subject that this one is compared with.
        attack: named in the cell where its column is that of the strongest other attack.
    """

    line: SummaryRow | None
    absent: str = ""
    strongest: bool = False
    difference: Difference | None = None
    attack: str = ""

    @property
    def figure(self) -> Interval | None:
        """The accuracy, if the cell has one."""
        return None if self.line is None else self.line.interval

    @property
    def basis(self) -> str:
        """``in 5 batches`` of a figure as attacked, else ``n = 256``; '' without a figure."""
        if self.figure is None or self.line is None:
            return ""
        own = self.figure.own
        return f"in {batches_text(own[1])}" if own else f"n = {self.line.examples:,}"

    def texts(self, table: "Table") -> list[tuple[str, bool]]:
        """Text of the cell, piece by piece, and whether it is bold: the accuracy, as attacked; its interval,
        unless inputs are answered together; and what it rests on where that is not so for most cells of
        ``table``.
        """
        line, figure = self.line, self.figure
        if line is None or figure is None:
            return [(self.absent, False)]
        parts = [(percent(figure.as_attacked), self.strongest)]
        if figure.own is None and (ends := interval(figure.low, figure.high, figure.kind)):
            parts.append((ends, False))
        if self.attack:
            parts.append((attack_in_words(self.attack), False))
        if not line.done:
            parts.append((incomplete_text(line.examples, line.examples_planned), False))
        elif self.basis not in table.bases:
            parts.append((self.basis, False))
        if line.faulty:
            parts.append((f"{line.faulty:,} faulty", False))
        return parts


@dataclass(frozen=True)
class TableRow:
    """A subject and its cells, one per column; ``ends`` are texts behind them."""

    subject: Subject
    labels: tuple[str, ...]
    cells: tuple[TableCell, ...]
    ends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Accuracies under one perturbation.

    Attributes:
        heads: titles of the rows' labels.
        ends: titles of the texts behind the cells.
    """

    title: str
    perturbation: Perturbation
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    ends: tuple[str, ...] = ()

    @property
    def cells(self) -> list[TableCell]:
        """Those with a figure."""
        return [cell for row in self.rows for cell in row.cells if cell.figure is not None]

    @property
    def bases(self) -> tuple[str, ...]:
        """What most figures of one kind rest on: ``n = 256``, ``in 2 batches``; a cell says what differs."""
        counts = Counter(cell.basis for cell in self.cells)
        kinds = {basis[:2]: basis for basis, _ in reversed(counts.most_common())}
        return tuple(kinds[kind] for kind in ("n ", "in") if kind in kinds)

    @property
    def kinds(self) -> set[words.IntervalKind | None]:
        """Of its intervals."""
        return {cell.figure.kind for cell in self.cells if cell.figure and cell.figure.own is None}

    @property
    def legend(self) -> str:
        """How to read it, but for the kinds of its intervals."""
        by_image, in_batches = ([b for b in self.bases if b.startswith(kind)] for kind in ("n", "in"))
        lower = {cell.line.lower_member for cell in self.cells if cell.line} - {""}
        known = {column.title.rpartition(", ")[2] for column in self.columns if column.threat.draw_known}
        texts = {
            f"Accuracy in percent{''.join(f', {basis}' for basis in by_image)}.": True,
            f"Batches answered together: as attacked, {''.join(in_batches)}.": in_batches,
            f"{', '.join(sorted(known)).capitalize()}: another threat model, whose attacker also has the "
            "inputs of one who does not know it.": known,
            f"{DASH}: does not apply (EOT and a known draw need randomness, transfer needs a base model; "
            "strongest other: an attack with a column is stronger).": any(
                cell.absent == DASH for row in self.rows for cell in row.cells
            ),
            "Strongest other, worst case: chosen on other draws; a single attack may be lower here.": lower,
        }
        return " ".join(text for text, shown in texts.items() if shown)

    def of_columns(self, places: Sequence[int]) -> "Table":
        """The table with some of its columns, in the order given, and ``ends`` behind its last one."""
        ends = len(self.ends) if len(self.columns) - 1 in places else 0
        rows = (
            replace(row, cells=tuple(row.cells[place] for place in places), ends=row.ends[:ends])
            for row in self.rows
        )
        columns = tuple(self.columns[place] for place in places)
        return replace(self, columns=columns, rows=tuple(rows), ends=self.ends[:ends])

    def by_attack(self) -> TextTable:
        """A row per attack, a column per subject."""
        heads = [
            " ".join(f"{head} = {label}" if label.isdecimal() else label for head, label in named)
            for named in (zip(self.heads, row.labels, strict=True) for row in self.rows)
        ]
        shown = [self._texts(row, whole=True) for row in self.rows]
        titles = (*(column.title for column in self.columns), *self.ends)
        rows = zip(titles, *shown, strict=True)
        return TextTable(("Attack", *heads), tuple(rows), frozenset(heads))

    def by_defence(self, *, whole: bool = True) -> TextTable:
        """A row per subject; ``whole``: with intervals."""
        titles = tuple(column.title for column in self.columns)
        rows = tuple((*row.labels, *self._texts(row, whole=whole)) for row in self.rows)
        # Names in cells are no figures: their lines end at spaces.
        figures = (column.title for column in self.columns if not column.besides)
        return TextTable((*self.heads, *titles, *self.ends), rows, frozenset(figures))

    def _texts(self, row: TableRow, *, whole: bool) -> list[str]:
        pieces = [[text for text, _ in cell.texts(self)] for cell in row.cells]
        shown = [[text for text in of if whole or not text.startswith("[")] for of in pieces]
        return [*map(" ".join, shown), *row.ends]


def tables_of(run: RunData) -> list[Table]:
    """Table 3 for every perturbation and kind of attacked inputs, then Table 10 for every defence that was
    run at several batch sizes.
    """
    rows = run.rows
    judged = run.manifest.judged_perturbations
    perturbations = list(dict.fromkeys(row.perturbation for row in rows if row.perturbation in judged))
    perturbations = perturbations or list(dict.fromkeys(row.perturbation for row in rows))
    subjects = subjects_of(rows)
    swept = {
        pair: [s for s in subjects if (s.checkpoint, s.defence) == pair]
        for pair in dict.fromkeys((s.checkpoint, s.defence) for s in subjects)
    }
    swept = {pair: group for pair, group in swept.items() if len({s.k for s in group}) > 1}
    build = TableBuilder(rows, run.manifest.cases, typed_attacks(run.manifest))
    main = _at_one_batch_size(subjects, {s for group in swept.values() for s in group})
    tables = []
    for perturbation, inputs in product(perturbations, build.inputs):
        title = f"Accuracy under attack: {perturbation_text(perturbation)}"
        title += "" if inputs == "batch" else f", {inputs}"
        tables.append(build.table(title, perturbation, main, inputs))
    for (checkpoint, _), group in swept.items():
        group = sorted(group, key=lambda s: (s.k or 0, s.n or 0))
        kind = inference_text(group[0].at_any_size)
        for perturbation in perturbations:
            title = f"Accuracy against batch size: {kind} on {checkpoint}, {perturbation_text(perturbation)}"
            tables.append(build.table(title, perturbation, group, build.inputs[0], by_size=True))
    return [table for table in tables if table.rows]


def typed_attacks(manifest: RunManifest) -> tuple[str, ...]:
    """The attacks that were named with --attacks one by one, and not as part of a preset of several."""
    typed: dict[str, None] = {}
    for call in manifest.invocations:
        presets = (names for names in PRESETS.values() if len(names) > 1 and {*names} <= {*call.attacks})
        of_presets = {*chain(*presets)}
        typed |= dict.fromkeys(name for name in call.attacks if name not in of_presets)
    return tuple(typed)


def _at_one_batch_size(subjects: Sequence[Subject], swept: set[Subject]) -> list[Subject]:
    """Subjects not swept, and those swept at the batch size that most subjects share."""
    sizes = [s.k for s in subjects if s.k is not None]
    main = max(set(sizes), key=lambda k: (sizes.count(k), k), default=None)
    return [s for s in subjects if s not in swept or s.k == main]


class TableBuilder:
    """Picks the lines of one run for cells.

    Args:
        cases: the planned cases of the run, which say what a subject is like.
        typed: attacks that have a column besides the standard ones.

    Attributes:
        inputs: the kinds of inputs that were attacked of batches answered together, those first that were
            asked for; ``batch`` where there are none.
    """

    def __init__(self, rows: Sequence[SummaryRow], cases: Iterable[CaseRecord], typed: Collection[str] = ()):
        self._lines = {(row.subject, row.perturbation, row.threat, row.attack): row for row in rows}
        self._facts = {record.case.subject: record for record in cases}
        self._typed = typed
        tried = {
            r.threat.inputs for r in rows if r.attack not in words.CONTROLS and self._in_batches(r.subject)
        }
        self.inputs = [inputs for inputs in INPUTS if inputs in tried] or ["batch"]

    def _in_batches(self, subject: Subject) -> bool:
        """True if its answers depend on the batch; else they are the same whatever inputs are attacked."""
        return subject not in self._facts or self._facts[subject].batch_dependent

    def table(
        self,
        title: str,
        perturbation: Perturbation,
        subjects: Sequence[Subject],
        inputs: str,
        *,
        by_size: bool = False,
    ) -> Table:
        """One table; subjects without a row under this perturbation are left out."""
        under = [
            row
            for row in self._lines.values()
            if row.subject in subjects
            and row.perturbation == perturbation
            and (row.threat.inputs == inputs or not self._in_batches(row.subject))
        ]
        present = {row.subject for row in under if row.attack != words.CLEAN} or {
            row.subject for row in under
        }
        columns = columns_of(under, inputs, self._typed, every=inputs == self.inputs[0])
        with_k = len({s.k for s in subjects if s.k is not None}) > 1
        rows = []
        for s in by_inference(subjects):
            labels = (str(s.k), str(s.n)) if by_size else (inference_text(s, with_k=with_k), s.checkpoint)
            if s in present:
                rows.append(TableRow(s, labels, tuple(self.cell(s, perturbation, c) for c in columns)))
        heads = ("K", "N") if by_size else ("Defence", "Network")
        return Table(title, perturbation, heads, columns, tuple(rows))

    def cell(self, subject: Subject, perturbation: Perturbation, column: Column) -> TableCell:
        """The accuracy of one subject under one attack."""
        threat = (
            column.threat if self._in_batches(subject) else ThreatModel("batch", column.threat.randomness)
        )
        if column.attack == words.CLEAN:
            line = self._clean(subject, threat)
        else:
            line = self._lines.get((subject, perturbation, threat, column.attack))
        best = self._lines.get((subject, perturbation, threat, words.STRONGEST))
        strongest = "" if best is None else best.strongest_attack
        if column.attack == words.STRONGEST and strongest in ("", *words.CONTROLS, *column.besides):
            return TableCell(None, absent=DASH)
        if line is None or line.accuracy is None:
            return TableCell(None, absent=NOT_RUN if line or self._applies(subject, column) else DASH)
        if column.attack == words.STRONGEST:
            return TableCell(line, strongest=True, attack=strongest)
        return TableCell(line, strongest=column.attack == strongest and strongest not in words.CONTROLS)

    def _clean(self, subject: Subject, threat: ThreatModel) -> SummaryRow | None:
        """Unperturbed inputs in batches like those that are attacked, else in whole ones, else in any."""
        clean = [r for r in self._lines.values() if r.subject == subject and r.attack == words.CLEAN]
        order = (threat.inputs, *INPUTS)
        return min(clean, key=lambda row: order.index(row.threat.inputs), default=None)

    def _applies(self, subject: Subject, column: Column) -> bool:
        """True if the attack of a column can be run on a subject."""
        facts, attack = self._facts.get(subject), parsed_attack(column.attack)
        if facts is None:
            return True
        averaged = isinstance(attack, Attack) and attack.eot is not None
        if (averaged or column.threat.draw_known) and not facts.randomised:
            return False
        return facts.has_base or attack is None or not attack.uses_base


def columns_of(
    rows: Iterable[SummaryRow], inputs: str = "batch", typed: Collection[str] = (), *, every: bool = True
) -> tuple[Column, ...]:
    """The columns of a table: see the head of this file.

    Args:
        rows: under one perturbation, of one kind of attacked inputs.
        typed: attacks that have a column besides the standard ones.
        every: False leaves out attacks that none of the rows is about.
    """
    rows = list(rows)
    sparse = any(row.perturbation.norm == "l0" for row in rows)
    named = dict.fromkeys([*(PRESETS["sparse"] if sparse else NAMED), *typed])
    tried = {row.attack for row in rows if row.threat.inputs == inputs}
    known_rows = [row for row in rows if row.threat.draw_known]
    word = draw_word(r.subject for r in known_rows or rows if r.subject.defence != words.STANDARD)
    columns = [Column(words.CLEAN, ThreatModel(inputs, "unknown"), "Clean")]
    for randomness in RANDOMNESS:
        threat = ThreatModel(inputs, randomness)
        of_threat = [row for row in rows if row.threat.draw_known == threat.draw_known]
        attacks = tuple(
            name for name in named if _knows_draw(name) == threat.draw_known and (every or name in tried)
        )
        chosen = {
            row.strongest_attack
            for row in of_threat
            if row.attack == words.STRONGEST and row.threat.inputs == inputs
        }
        known = f", {word} known" if threat.draw_known else ""
        columns += [Column(name, threat, paper_name(name, word)) for name in attacks]
        if chosen.difference(attacks, words.CONTROLS, {""}):
            columns.append(Column(words.STRONGEST, threat, f"Strongest other{known}", attacks))
        if not known or any(row.attack == words.ENSEMBLE for row in of_threat):
            columns.append(Column(words.ENSEMBLE, threat, f"Worst case{known}"))
    return tuple(columns)


def _knows_draw(attack: str) -> bool:
    named = parsed_attack(attack)
    return named is not None and named.knows == "aware"


def by_inference(subjects: Sequence[Subject]) -> list[Subject]:
    """Standard inference first, then defences as in the run, by K and N; checkpoints of each together."""
    kinds = list(dict.fromkeys(s.defence for s in subjects))
    checkpoints = list(dict.fromkeys(s.checkpoint for s in subjects))

    def place(s: Subject) -> tuple[object, ...]:
        kind, network = kinds.index(s.defence), checkpoints.index(s.checkpoint)
        return s.defence != words.STANDARD, kind, s.k or 0, s.n or 0, network

    return sorted(subjects, key=place)


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
    "Accuracy": lambda line: with_interval(line.interval, missing=DASH),
    "Majority": lambda line: percent(line.majority),
    "Every draw": lambda line: percent(line.every_draw),
    "Reaches its target": lambda line: with_interval(line.reached),
    "Clean accuracy": lambda line: percent(line.clean_accuracy),
    "Forwards": lambda line: DASH if line.forwards is None else f"{line.forwards:.4g}",
    "Backwards": lambda line: DASH if line.backwards is None else f"{line.backwards:.4g}",
}
