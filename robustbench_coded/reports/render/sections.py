"""A report in its order, and what each section is made of, whatever the format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_coded.judge.run import Run
from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.run import examples, findings, methodology, text_tables
from robustbench_coded.reports.run.opening import Opening
from robustbench_coded.reports.run.tables import Table, narrowed, tables_of
from robustbench_coded.reports.text.formatting import TextTable, kinds_text
from robustbench_coded.schema.words import VerdictName

ACCURACY_LEGEND = (
    "Accuracies are in percent, on fresh draws unless the attacker knows the draw, with 95% intervals. "
    "Bold: the strongest single attack in its threat model, unless its perturbations were crafted for "
    "another threat model."
)
EMPTY_LEGEND = (
    "Blank cells: the attack does not apply (it requires randomness, a base model or co-batched inputs) or "
    "did not run."
)
PAPER_LEGEND = (
    "paper: the number in arXiv 2510.00253 for the same setting, measured there on another network; see "
    "'Methods'."
)
ROWS_LEGEND = "Images forward and backward through the network per scored example; seconds are in log.jsonl."


class Legend(NamedTuple):
    """How to read what stands above it."""

    text: str


class Bullets(NamedTuple):
    """Sentences in a list."""

    texts: tuple[str, ...]


class Facts(NamedTuple):
    """Facts, each with what it is about."""

    facts: tuple[methodology.Fact, ...]


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
        detail: whether it is for those who check: folded in report.html, and nowhere else.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    detail: bool = False


@dataclass(frozen=True)
class Report:
    """A report, as texts that still have to be escaped.

    Attributes:
        opening: its first screen; picture: the figure there.
        remarks: what else a reader has to know before anything else.
    """

    title: str
    opening: Opening
    picture: Drawing | None
    remarks: tuple[str, ...]
    sections: tuple[Section, ...]


def report_of(
    run: Run,
    opening: Opening,
    figures: Sequence[Drawing] = (),
    worst: Sequence[examples.WorstExample] = (),
    title: str = "",
) -> Report:
    """The report of a run: every section that has something to say, the answers first.

    Args:
        worst: the examples that fell furthest.
        title: in place of the folder's name.
    """
    kinds = kinds_text({row.interval_kind for row in run.rows})
    sections = [
        *_answers(run, marked=bool(opening.certainty)),
        *_details(run, [figure for figure in figures if figure.name != "answer"]),
        _section(
            "worst",
            "Examples with the largest drop in margin",
            text_tables.worst_text_table(worst),
            detail=True,
        ),
        Section(
            "cost",
            "All rows with their cost",
            (Legend(f"{ROWS_LEGEND} {kinds}"), text_tables.row_text_table(run.rows)),
            detail=True,
        ),
    ]
    return Report(
        title=title or opening.title,
        opening=opening,
        picture=next((figure for figure in figures if figure.name == "answer"), None),
        remarks=tuple(findings.remarks_on(run)),
        sections=tuple(
            section for section in sections if section.id in _ALWAYS or any(map(_filled, section.blocks))
        ),
    )


def _answers(run: Run, marked: bool) -> Iterator[Section]:
    """What answers the question, and what qualifies it; ``marked``: the opening explains the intervals."""
    yield _section(
        "verdicts",
        "Verdicts",
        text_tables.verdict_text_table(run.judgements),
        Legend(text_tables.VERDICT_LEGEND),
    )
    tables = tables_of(run)
    for table in tables:
        yield _accuracies(narrowed(table), "" if marked else table.kinds)
    asked = [j for j in run.judgements if j.verdict.name in _ASKS]
    yield _section("why", "Reasons for positive and open verdicts", text_tables.reason_text_table(asked))
    yield _section("checks", "Their checks", text_tables.check_text_table(asked))
    yield _section("failures", "What did not run", Bullets(tuple(findings.failures_of(run))))
    yield _section("notes", "Notes", Bullets(methodology.notes_of(run.manifest)))
    yield _section("limits", "Limitations", Bullets(tuple(methodology.limits_of(run))))
    has_paper = any(table.has_paper for table in tables)
    yield _section("measured", "Methods", Facts(tuple(methodology.methods_of(run, paper=has_paper))))
    commands = tuple(findings.commands_of(run))
    order = [Legend("The first command started this run. Later commands resumed or extended it.")]
    yield _section("again", "Reproduce", Commands(commands), *(order if len(commands) > 1 else []))


def _details(run: Run, figures: Sequence[Drawing]) -> Iterator[Section]:
    """What those look up who check the answer."""
    for name, title, facts in (
        ("terms", "Terms", methodology.terms_of(run)),
        ("attacks", "Attacks", methodology.attacks_of(run)),
    ):
        yield _section(name, title, Facts(tuple(facts)), detail=True)
    yield _section("figures", "Figures", Figures(tuple(figures)), detail=True)


def _accuracies(table: Table, kinds: str) -> Section:
    legend = f"All results use {table.examples:,} images unless a cell states n. {ACCURACY_LEGEND}"
    legend += f" {EMPTY_LEGEND}" if any(None in row.cells for row in table.rows) else ""
    legend += f" {kinds}" if kinds else ""
    legend += f" {PAPER_LEGEND}" if table.has_paper else ""
    return _section("accuracies", table.title, table, Legend(legend))


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


# Said even where they are empty: that there is none is an answer, too.
_ALWAYS = ("verdicts", "cost")
_ASKS = (VerdictName.NO_FAILURE_FOUND, VerdictName.NOT_SETTLED)  # verdicts that somebody has to check


def _filled(block: Block) -> bool:
    match block:
        case Legend():
            return False
        case Table() | TextTable():
            return bool(block.rows)
        case _:
            return bool(block[0])
