"""The tables of a run at a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.compare.batch_sizes import sweeps_of
from robustbench_coded.reports.compare.comparison import RunComparison
from robustbench_coded.reports.render import sections, sentence
from robustbench_coded.reports.render.plain_table import PlainTable
from robustbench_coded.reports.run.methodology import remarks_on
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import Table, tables_of
from robustbench_coded.reports.run.verdict_tables import WIDE, other_text_table, shown_rows
from robustbench_coded.reports.text import formatting
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.words import VerdictName


class AccuracyTable:
    """A table of accuracies in a terminal of any width: a row per defence, with intervals where these have
    room, or turned round, with a row per attack.
    """

    def __init__(self, table: Table):
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, same = self._table.by_attack(), ""
        for whole in (False, True):  # without and with intervals
            by_defence, constants = self._table.by_defence(whole=whole).without_constants(self._table.heads)
            if PlainTable("", by_defence).fits(options.max_width):
                table, same = by_defence, constants and f" ({constants})"
        yield PlainTable(f"{self._table.title}{same}", table)
        yield _sentence(self._table.legend)


def result(run: RunData) -> Group:
    """Text that an evaluation prints: the answer, then the attacks on whole batches."""
    first: dict[Any, Table] = {}
    for table in tables_of(run):  # of whole batches, and those of batch sizes
        first.setdefault(table.title if "K" in table.heads else table.perturbation, table)
    return Group(answer(run), *map(AccuracyTable, first.values()), *_batch_sizes(run))


def answer(run: RunData) -> Group:
    """The first screen: the same in the same order as in report.html."""
    opening = opening_of(run)
    table, same = shown_rows(opening.rows)
    others = other_text_table(opening.rows)
    table = table.with_columns([head not in WIDE for head in table.heads])
    below = [f"All rows: {same}."] if same else []
    below += [f"{about}: {text}" for about, text in opening.facts.items()]
    below.append(f"{opening.next} {opening.next.command}".strip())
    return Group(
        *(_sentence(str(answer)) for answer in opening.answers),
        *([PlainTable("", table)] if opening.rows else []),
        *map(_sentence, filter(None, (*below, *remarks_on(run)))),
        *([PlainTable("Other attackers", others)] if others.rows else []),
    )


def summary_table(run: RunData) -> Group:
    """The answer, then every attack on every subject; names are never read as markup."""
    tables = map(AccuracyTable, tables_of(run))
    return Group(answer(run), *tables, *_batch_sizes(run), *map(_sentence, _reasons(run)))


def _batch_sizes(run: RunData) -> Iterator[Any]:
    """Whether accuracy depends on the batch size, for what was evaluated at several."""
    for sweep in sweeps_of(run):
        yield PlainTable(sweep.title, sweep.text_table)
        yield _sentence(sweep.sentence)


def _sentence(text: str) -> sentence.Sentence:
    return sentence.Sentence(one_line(text))


def comparison_table(comparison: RunComparison, beside: Sequence[sections.Section] = ()) -> Group:
    """The tables of a comparison, differences to the baseline in them, and what the runs do not share.

    Args:
        beside: sections that stand behind these.
    """
    parts: list[Any] = [*map(_sentence, (comparison.answer, *comparison.unpaired))]
    parts += map(AccuracyTable, comparison.tables)
    parts += map(_sentence, (comparison.legend, *comparison.incompatibilities))
    for section in beside:
        for block in section.blocks:
            if isinstance(block, formatting.TextTable):
                parts.append(PlainTable(section.title, block))
            elif isinstance(block, sections.Legend | sections.Bullets):
                parts += map(_sentence, [block.text] if isinstance(block, sections.Legend) else block.texts)
    return Group(*parts)


def example_table(title: str, text_table: formatting.TextTable) -> Group:
    """Answers to one example: a block per subject, so that its lines fit a narrow terminal."""
    rows = [dict(zip(text_table.heads, row, strict=True)) for row in text_table.rows]
    perturbations = dict.fromkeys(row["Perturbation budget"] for row in rows if row["Perturbation budget"])
    about = [title, f"label {rows[0]['Label']}", *(perturbations if len(perturbations) == 1 else [])]
    left_out = {"Label", *(["Perturbation budget"] if len(perturbations) == 1 else [])}
    shown = text_table.with_columns([head not in left_out for head in text_table.heads])
    parts = [PlainTable(f"{inference} on {name}", table) for (name, inference), table in shown.split(2)]
    return Group(Text(one_line("; ".join(about))), *parts)


def _reasons(run: RunData) -> Iterator[str]:
    """Why verdicts are open."""
    open_ = [judgement for judgement in run.judgements if judgement.verdict.name == VerdictName.NOT_SETTLED]
    yield from (f"{judgement}. {judgement.verdict.reason}" for judgement in open_)
