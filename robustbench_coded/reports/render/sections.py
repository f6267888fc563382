"""The sections of a report in their order, and what each is made of, whatever the format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.run.certified import CERTIFIED, CERTIFIED_LEGEND
from robustbench_coded.reports.run.check_counts import check_count_text_table
from robustbench_coded.reports.run.collateral import COLLATERAL, COLLATERAL_LEGEND
from robustbench_coded.reports.run.design_table import DESIGN_LEGEND, DESIGN_TITLE, design_text_table
from robustbench_coded.reports.run.document import Document
from robustbench_coded.reports.run.eight_bits import (
    EIGHT_BITS_LEGEND,
    EIGHT_BITS_TITLE,
    eight_bits_text_table,
)
from robustbench_coded.reports.run.matrix import MATRIX, MATRIX_LEGEND
from robustbench_coded.reports.run.methodology import Fact
from robustbench_coded.reports.run.narrow import narrowed
from robustbench_coded.reports.run.selftest_table import SELFTESTS_LEGEND, SELFTESTS_TITLE
from robustbench_coded.reports.run.stops import STOPS_TITLE
from robustbench_coded.reports.run.submitted import (
    SUBMITTED_LEGEND,
    SUBMITTED_TITLE,
    submitted_text_table,
)
from robustbench_coded.reports.run.tables import Table
from robustbench_coded.reports.run.text_tables import (
    COMPONENTS,
    COMPONENTS_LEGEND,
    VERDICT_LEGEND,
    check_text_table,
    reason_text_table,
    row_text_table,
    verdict_text_table,
    worst_text_table,
)
from robustbench_coded.reports.run.worst import WorstExample
from robustbench_coded.reports.text.text_table import TextTable

ROWS_LEGEND = (
    "Images forward and backward through the network per scored example; seconds, images per second and "
    "memory are in timings.csv."
)
PICTURES_LEGEND = "Clean image, perturbation scaled to its largest change, perturbed image."


_MANY = 12  # rows beyond which a table that few read as a whole is for details.md
_PARTICULARS = ("Recognition", "Attack", "Versions")  # facts that are long and that few look up


class Legend(NamedTuple):
    """How to read what stands above it."""

    text: str


class Bullets(NamedTuple):
    """Sentences in a list."""

    texts: tuple[str, ...]


class Facts(NamedTuple):
    """Facts, each with what it is about."""

    facts: tuple[Fact, ...]


class Commands(NamedTuple):
    """Commands to paste into a shell."""

    commands: tuple[str, ...]


class Figures(NamedTuple):
    """Figures with their captions."""

    figures: tuple[Drawing, ...]


class Pictures(NamedTuple):
    """Examples, each with a PNG of its images."""

    pictures: tuple[tuple[WorstExample, bytes], ...]


class Folded(NamedTuple):
    """A table that is opened on demand, and its number of rows beside its title."""

    title: str
    table: TextTable


Block = Legend | Bullets | Facts | Commands | Figures | Pictures | Folded | Table | TextTable


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        id: what a link calls it, unique in its report but for tables of accuracies.
        blocks: what stands in it, in its order.
        detail: whether it is for those who check: report.md leaves it to details.md.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    detail: bool = False


def sections_of(
    document: Document, figures: Sequence[Drawing] = (), pictures: Sequence[bytes | None] = ()
) -> list[Section]:
    """Every section that has something to say, the answers first.

    Args:
        pictures: a PNG for each of the examples that fell furthest, None where its images were not kept.
    """
    judgements = document.judgements
    particulars = tuple(fact for fact in document.facts if fact.about in _PARTICULARS)
    measured = tuple(fact for fact in document.facts if fact.about not in _PARTICULARS)
    bars = tuple(figure for figure in figures if figure.name == "certified")
    first, others = tuple(figures[:1]), tuple(figure for figure in figures[1:] if figure not in bars)
    shown: tuple[tuple[WorstExample, bytes], ...] = tuple(
        (worst, picture)
        for worst, picture in zip(document.worst, pictures, strict=bool(pictures))
        if picture is not None
    )
    sections = [
        _section("verdicts", "Verdicts", verdict_text_table(judgements), Legend(VERDICT_LEGEND)),
        _section("ladder", "At a glance", Figures(first)),
        *(_accuracies(document, narrowed(table)) for table in document.tables),
        _section("stops", STOPS_TITLE, document.stops, Legend(document.stops_legend)),
        _section("certified", CERTIFIED, document.certified, Legend(CERTIFIED_LEGEND), Figures(bars)),
        _section("findings", "What the stronger attacks found", Bullets(document.findings)),
        _short("design", DESIGN_TITLE, design_text_table(judgements), Legend(DESIGN_LEGEND)),
        _short("checks", "Checks of the attacks", check_count_text_table(judgements)),
        _short(
            "eight-bits", EIGHT_BITS_TITLE, eight_bits_text_table(document.lines), Legend(EIGHT_BITS_LEGEND)
        ),
        _section("measured", "How this was measured", Facts(measured)),
        _section("limits", "What these tables do not prove", Bullets(document.limits)),
        _section("failures", "What did not run", Bullets(document.failures)),
        _section("notes", "Notes", Bullets(document.notes)),
        _section("again", "Run it again", Commands(document.commands)),
        _section("attacks", "Checkpoints, attacks and software versions", Facts(particulars), detail=True),
        _section("why", "Reasons for the verdicts", reason_text_table(judgements), detail=True),
        _section(
            "open-checks",
            "Checks that did not pass",
            check_text_table(judgements, passed=False),
            Folded("Checks that passed", check_text_table(judgements, passed=True)),
            detail=True,
        ),
        _section(
            "self-tests",
            SELFTESTS_TITLE,
            document.selftests[0],
            Legend(SELFTESTS_LEGEND),
            Folded("Every self-test with its figures", document.selftests[1]),
            detail=True,
        ),
        *(_all_attacks(document, table) for table in document.tables if narrowed(table) != table),
        _section("matrix", MATRIX, document.matrix, Legend(MATRIX_LEGEND), detail=True),
        _section(
            "submitted",
            SUBMITTED_TITLE,
            submitted_text_table(document.lines),
            Legend(SUBMITTED_LEGEND),
            detail=True,
        ),
        _section("collateral", COLLATERAL, document.collateral, Legend(COLLATERAL_LEGEND)),
        _section("figures", "Figures", Figures(others), detail=True),
        _section("components", COMPONENTS, document.components, Legend(COMPONENTS_LEGEND), detail=True),
        _section(
            "worst",
            "Examples with the largest drop in margin",
            *((Legend(PICTURES_LEGEND), Pictures(shown)) if shown else ()),
            worst_text_table(document.worst),
            detail=True,
        ),
        _section(
            "cost", "Cost and every row", Legend(ROWS_LEGEND), row_text_table(document.lines), detail=True
        ),
    ]
    return [section for section in sections if _says_something(section)]


def _accuracies(document: Document, table: Table) -> Section:
    legend = f"{document.legend} {document.paper_legend}" if table.has_paper else document.legend
    return _section("accuracies", table.title, table, Legend(legend))


def _all_attacks(document: Document, table: Table) -> Section:
    section = _accuracies(document, table)
    return replace(section, title=f"All attacks. {table.title}", detail=True)


def _section(name: str, title: str, *blocks: Block, detail: bool = False) -> Section:
    return Section(name, title, blocks, detail)


def _short(name: str, title: str, table: TextTable, *blocks: Block) -> Section:
    """A section for everybody while its table is short, which of many subjects it is not."""
    return _section(name, title, table, *blocks, detail=len(table.rows) > _MANY)


# Said even where they are empty: that there is none is an answer, too.
_ALWAYS = ("verdicts", "why", "open-checks", "matrix", "cost")


def _says_something(section: Section) -> bool:
    return section.id in _ALWAYS or any(_filled(block) for block in section.blocks)


def _filled(block: Block) -> bool:
    match block:
        case Legend():
            return False
        case Table() | TextTable():
            return bool(block.rows)
        case Folded():
            return bool(block.table.rows)
        case _:
            return bool(block[0])
