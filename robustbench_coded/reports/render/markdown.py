"""report.md, for a repository, and details.md, for those who check it."""

from collections.abc import Sequence

from robustbench_coded.reports.render.sections import (
    Block,
    Bullets,
    Commands,
    Facts,
    Figures,
    Folded,
    Legend,
    Pictures,
    Section,
)
from robustbench_coded.reports.run.document import Document
from robustbench_coded.reports.run.tables import Cell, Column, Table
from robustbench_coded.reports.text.escape import markdown, markdown_block
from robustbench_coded.reports.text.formatting import (
    difference_text,
    incomplete_text,
    interval,
    percent,
    settled,
)
from robustbench_coded.reports.text.text_table import TextTable


def markdown_report(document: Document, sections: Sequence[Section]) -> str:
    """What a report finds and how it was measured, in GitHub's Markdown; the rest is named at its end."""
    parts = [f"# {markdown(document.title)}", *[markdown(line) for line in document.opening]]
    if document.warnings:
        parts.append(bullets(document.warnings))
    for section in sections:
        if not section.detail:
            parts += _section(section)
    left = [section.title for section in sections if section.detail]
    if left:
        parts += ["## Details", f"See [details.md](details.md) for: {markdown('; '.join(left))}."]
    return "\n\n".join(parts) + "\n"


def markdown_details(document: Document, sections: Sequence[Section]) -> str:
    """What `markdown_report` leaves out."""
    parts = [f"# {markdown(document.title)}: details", "The main results are in [report.md](report.md)."]
    for section in sections:
        if section.detail:
            parts += _section(section)
    return "\n\n".join(parts) + "\n"


def plain_markdown(title: str, opening: Sequence[str], sections: Sequence[Section]) -> str:
    """A report that is no evaluation's."""
    parts = [f"# {markdown(title)}", *[markdown(line) for line in opening]]
    for section in sections:
        parts += [] if section.detail else _section(section)
    if any(section.detail for section in sections):
        parts.append("[details.md](details.md) has the rest.")
    return "\n\n".join(parts) + "\n"


def plain_details(title: str, sections: Sequence[Section]) -> str:
    """What `plain_markdown` leaves out."""
    parts = [f"# {markdown(title)}: details", "What it finds is in [report.md](report.md)."]
    for section in sections:
        parts += _section(section) if section.detail else []
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


def _section(section: Section) -> list[str]:
    return [f"## {markdown(section.title)}", *(text for block in section.blocks for text in _block(block))]


def _block(block: Block) -> list[str]:
    """The paragraphs of one block."""
    match block:
        case Legend(text):
            return [markdown(text)]
        case Bullets(texts):
            return [bullets(texts)]
        case Facts(facts):
            return ["\n".join(f"- **{fact.about}.** {markdown(fact.text)}" for fact in facts)]
        case Commands(commands):
            return [markdown_block(command) for command in commands]
        case Figures(figures):
            return [
                text
                for figure in figures
                for text in (
                    f"![{markdown(figure.title)}](figures/{figure.name}.svg)",
                    f"**{markdown(figure.title)}.** {markdown(figure.caption)}",
                )
            ]
        case Pictures():
            return ["The pictures are in report.html."]
        case Folded(title, table):
            summary = f"<summary>{markdown(title)} ({len(table.rows)})</summary>"
            return [f"<details>{summary}\n\n{markdown_text_table(table)}\n\n</details>"]
        case Table():
            return [markdown_table(block)]
        case TextTable():
            return [markdown_text_table(block)]


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


def _rows(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
