"""The tables of a run at a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from robustbench_coded.judge.run import Run
from robustbench_coded.reports.compare.batch_sizes import sweeps_of
from robustbench_coded.reports.compare.comparison import RunComparison
from robustbench_coded.reports.render import sections, sentence
from robustbench_coded.reports.render.plain_table import PlainTable
from robustbench_coded.reports.run import findings
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import narrowed, tables_of
from robustbench_coded.reports.run.verdict_tables import WIDE, shown_rows
from robustbench_coded.reports.text import formatting
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.words import VerdictName

MOST_SUBJECTS = 4  # that have a column in the table of attacks after an evaluation


def result(run: Run) -> Group:
    """Text that an evaluation prints: the answer, then the attacks on subjects, if these are few."""
    few = len({row.subject for row in run.rows}) <= MOST_SUBJECTS
    attacks = [PlainTable(table.title, table.by_attack()) for table in map(narrowed, tables_of(run)) if few]
    return Group(answer(run), *attacks, *_batch_sizes(run))


def answer(run: Run) -> Group:
    """The first screen: the same in the same order as in report.html."""
    opening = opening_of(run)
    first = " ".join(filter(None, (opening.question, *map(str, opening.answers))))
    table, same = shown_rows(opening.rows)
    table = table.with_columns([head not in (*WIDE, "Broken up to", "Claim") for head in table.heads])
    about = [f"All rows: {same}."] if same else []
    sentences = [*about, *opening.others, opening.certainty, f"{opening.next} {opening.next.command}".strip()]
    return Group(
        _sentence(first),
        *([PlainTable("", table)] if opening.rows else []),
        *map(_sentence, filter(None, (*sentences, *findings.remarks_on(run)))),
    )


def summary_table(run: Run) -> Group:
    """The answer, then every attack on every subject; names are never read as markup."""
    parts: list[Any] = [answer(run)]
    parts += [PlainTable(table.title, table.by_attack()) for table in tables_of(run)]
    if any(None in row.cells for table in tables_of(run) for row in table.rows):
        parts.append(_sentence(sections.EMPTY_LEGEND))
    return Group(*parts, *_batch_sizes(run), *map(_sentence, _reasons(run)))


def _batch_sizes(run: Run) -> Iterator[Any]:
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
    parts += [PlainTable(table.title, table.by_attack()) for table in comparison.tables]
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


def _reasons(run: Run) -> Iterator[str]:
    """Why verdicts are open."""
    open_ = [judgement for judgement in run.judgements if judgement.verdict.name == VerdictName.NOT_SETTLED]
    yield from (f"{judgement}. {judgement.verdict.reason}" for judgement in open_)
