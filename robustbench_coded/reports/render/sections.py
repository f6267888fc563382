"""A report in its order, and what each section is made of, whatever the format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.compare.batch_sizes import sweeps_of
from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.run import methodology, verdict_tables
from robustbench_coded.reports.run.opening import Opening
from robustbench_coded.reports.run.tables import Table, row_text_table, tables_of
from robustbench_coded.reports.text.formatting import TextTable
from robustbench_coded.schema.words import VerdictName

BOLD = "Bold: the strongest single attack of its threat model."
SIZES_LEGEND = "Worst case in percent. Differences are between re-batched figures."
ROWS_LEGEND = "Images forward and backward through the network per scored example; seconds are in log.jsonl."


class Legend(NamedTuple):
    """How to read what stands above it."""

    text: str


class Bullets(NamedTuple):
    """Sentences in a list."""

    texts: tuple[str, ...]


class Facts(NamedTuple):
    """Facts, each with what it is about."""

    facts: dict[str, str]


class Commands(NamedTuple):
    """Commands to paste into a shell."""

    commands: tuple[str, ...]


class Figures(NamedTuple):
    """Figures with their captions."""

    figures: tuple[Drawing, ...]


Block = Legend | Bullets | Facts | Commands | Figures | Table | TextTable


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        id: what a link calls it, unique in its report but for tables of accuracies.
        blocks: what stands in it, in its order.
        detail: whether it stands in report.html alone.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    detail: bool = False


@dataclass(frozen=True)
class Report:
    """A report, as texts that still have to be escaped.

    Attributes:
        opening: its first screen; table: its rows; same: what is the same in all of them.
        remarks: what else a reader has to know before anything else.
    """

    title: str
    opening: Opening
    table: TextTable
    same: str
    remarks: tuple[str, ...]
    sections: tuple[Section, ...]


def report_of(run: RunData, opening: Opening, figures: Sequence[Drawing] = (), title: str = "") -> Report:
    """The report of a run: every section that has something to say, the answers first.

    Args:
        title: in place of the run's own.
    """
    table, same = verdict_tables.shown_rows(opening.rows)
    return Report(
        title=title or opening.title,
        opening=opening,
        table=table,
        same=same,
        remarks=tuple(methodology.remarks_on(run)),
        sections=tuple(
            section
            for section in _sections(run, opening, figures)
            if section.id == "cost" or any(map(_filled, section.blocks))
        ),
    )


def _sections(run: RunData, opening: Opening, figures: Sequence[Drawing]) -> Iterator[Section]:
    yield Section("others", "Other attackers", (verdict_tables.other_text_table(opening.rows),))
    yield _section("figures", "Figures", Figures(tuple(figures)), detail=True)
    for table in tables_of(run):
        yield _section("accuracies", table.title, table, Legend(f"{table.legend} {BOLD}"))
    for sweep in sweeps_of(run):
        blocks = (Legend(sweep.sentence), sweep.text_table, Legend(SIZES_LEGEND))
        yield Section("batch-sizes", sweep.title, blocks)
    asked = [j for j in run.judgements if j.verdict.name in _ASKS]
    yield _section("why", "Reasons for positive and open verdicts", verdict_tables.reason_text_table(asked))
    yield _section("checks", "Their checks", verdict_tables.check_text_table(asked))
    yield _section("failures", "What did not run", Bullets(tuple(methodology.failures_of(run))))
    yield _section("notes", "Notes", Bullets(run.manifest.notes))
    yield _section("limits", "Limitations", Bullets(tuple(methodology.limits_of(run))))
    yield _section("measured", "How it was measured", Facts(methodology.methods_of(run)))
    yield _section("again", "Reproduce", Commands(tuple(methodology.commands_of(run))))
    yield _section("attacks", "Attacks", Facts(methodology.attacks_of(run)), detail=True)
    cost = (Legend(ROWS_LEGEND), row_text_table(run.rows))
    yield Section("cost", "All rows with their cost", cost, detail=True)


def _section(name: str, title: str, *blocks: Block, detail: bool = False) -> Section:
    """A section whose plain tables say once what is the same in every row."""
    shown: list[Block] = []
    for block in blocks:
        if isinstance(block, TextTable):
            table, same = block.without_constants()
            shown += [table, *([Legend(f"All rows: {same}.")] if same else [])]
        else:
            shown.append(block)
    return Section(name, title, tuple(shown), detail)


_ASKS = (VerdictName.NO_FAILURE_FOUND, VerdictName.NOT_SETTLED)  # verdicts that somebody has to check


def _filled(block: Block) -> bool:
    match block:
        case Legend():
            return False
        case Table() | TextTable():
            return bool(block.rows)
        case _:
            return bool(block[0])
