"""report.md: the tables and what stands under them, for a repository."""

from collections.abc import Sequence

from robustbench_coded.reports.run.collateral import COLLATERAL, COLLATERAL_LEGEND
from robustbench_coded.reports.run.document import Document
from robustbench_coded.reports.run.matrix import MATRIX, MATRIX_LEGEND
from robustbench_coded.reports.run.tables import Cell, Column, Table
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
from robustbench_coded.reports.text.escape import markdown, markdown_block
from robustbench_coded.reports.text.formatting import (
    difference_text,
    incomplete_text,
    interval,
    percent,
    settled,
)
from robustbench_coded.reports.text.text_table import TextTable


def markdown_report(document: Document) -> str:
    """A whole report in GitHub's Markdown."""
    parts = [f"# {markdown(document.title)}", *[markdown(line) for line in document.opening]]
    if document.warnings:
        parts.append(bullets(document.warnings))
    parts += [
        "## Verdicts",
        markdown_text_table(verdict_text_table(document.judgements)),
        markdown(VERDICT_LEGEND),
    ]
    for table in document.tables:
        parts += [f"## {markdown(table.title)}", markdown_table(table), markdown(document.legend)]
        if table.has_paper:
            parts.append(markdown(document.paper_legend))
    parts += [f"## {MATRIX}", markdown_text_table(document.matrix), markdown(MATRIX_LEGEND)]
    if document.collateral.rows:
        parts += [f"## {COLLATERAL}", markdown_text_table(document.collateral), markdown(COLLATERAL_LEGEND)]
    if document.findings:
        parts += ["## What the stronger attacks found", bullets(document.findings)]
    parts += ["## How this was measured", _facts(document)]
    parts += ["## What these tables do not prove", bullets(document.limits)]
    if document.failures:
        parts += ["## What did not run", bullets(document.failures)]
    if document.notes:
        parts += ["## Notes", bullets(document.notes)]
    parts += [
        "## Checks that did not pass",
        markdown_text_table(check_text_table(document.judgements, passed=False)),
    ]
    if document.components.rows:
        parts += [f"## {COMPONENTS}", markdown_text_table(document.components), markdown(COMPONENTS_LEGEND)]
    if document.worst:
        parts += ["## Examples that fell furthest", markdown_text_table(worst_text_table(document.worst))]
    parts += ["## Details"]
    parts += [_folded("Why each verdict", reason_text_table(document.judgements))]
    parts += [_folded("Checks that passed", check_text_table(document.judgements, passed=True))]
    parts += [_folded("Every row of summary.csv", row_text_table(document.lines))]
    if document.commands:
        parts += ["## Run it again", *(markdown_block(command) for command in document.commands)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table with the strongest attack of each threat model in bold."""
    lines = [[*table.heads, *(_head(column) for column in table.columns)]]
    lines.append([*[":--"] * len(table.heads), *["--:"] * len(table.columns)])
    for row in table.rows:
        lines.append([*(markdown(label) for label in row.labels), *(_cell(cell) for cell in row.cells)])
    return _rows(lines)


def markdown_text_table(text_table: TextTable) -> str:
    """A plain table; a dash where it has no rows."""
    if not text_table.rows:
        return "None."
    align = ["--:" if head in text_table.numbers else ":--" for head in text_table.heads]
    return _rows([text_table.heads, align, *([markdown(text) for text in row] for row in text_table.rows)])


def bullets(texts: Sequence[str]) -> str:
    """A list, one line each."""
    return "\n".join(f"- {markdown(text)}" for text in texts)


def _head(column: Column) -> str:
    title = markdown(column.attack)
    if column.attack in ("clean", "random-sign"):
        return title
    return f"{title}<br><sub>{markdown(column.threat)}</sub>"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    line = cell.line
    text = f"**{percent(line.accuracy)}**" if cell.strongest else percent(line.accuracy)
    small = interval(line.low, line.high)
    shown = [text + (f" <sub>{small}</sub>" if small else "")]
    if not line.done:
        shown.append(f"<sub>{incomplete_text(line.examples, line.examples_planned)}</sub>")
    if cell.difference is not None:
        mark = "**" if settled(cell.difference) else ""
        shown.append(f"<sub>{mark}{difference_text(cell.difference)}{mark}</sub>")
    if cell.paper is not None:
        shown.append(f"<sub>paper {percent(cell.paper)}</sub>")
    return "<br>".join(shown)


def _facts(document: Document) -> str:
    return "\n".join(f"- **{fact.about}.** {markdown(fact.text)}" for fact in document.facts)


def _folded(title: str, text_table: TextTable) -> str:
    summary = f"<summary>{title} ({len(text_table.rows)})</summary>"
    return f"<details>{summary}\n\n{markdown_text_table(text_table)}\n\n</details>"


def _rows(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
