"""report.md and comparison.md, for a repository."""

from collections.abc import Sequence

from robustbench_coded.reports.render.sections import (
    Block,
    Bullets,
    Commands,
    Facts,
    Figures,
    Legend,
    Report,
    Section,
)
from robustbench_coded.reports.run.tables import Table, TableCell
from robustbench_coded.reports.text import formatting
from robustbench_coded.reports.text.escape import markdown, markdown_block


def markdown_report(report: Report) -> str:
    """The answer, and what qualifies it, in GitHub's Markdown; the rest is named at its end."""
    opening = report.opening
    answers = [
        f"{markdown(a.setting)}{': ' * bool(a.setting)}**{a.verdict}.** {markdown(a.figures)}"
        for a in opening.answers
    ]
    parts = [f"# {markdown(report.title)}", *answers]
    parts += [markdown_text_table(report.table)] if opening.rows else []
    parts += [markdown(f"All rows: {report.same}.")] if report.same else []
    parts += [facts(opening.facts), markdown(opening.next)]
    parts += [markdown_block(opening.next.command)] if opening.next.command else []
    parts += [bullets(report.remarks)] if report.remarks else []
    for section in report.sections:
        parts += [] if section.detail else _section(section)
    titles = [section.title for section in report.sections if section.detail]
    listed = markdown(formatting.series([f"{title[:1].lower()}{title[1:]}" for title in titles]))
    parts.append(f"report.html has, besides, {listed}; summary.csv has all rows, verdicts.csv all reasons.")
    return "\n\n".join(filter(None, parts)) + "\n"


def plain_markdown(title: str, opening: Sequence[str], sections: Sequence[Section]) -> str:
    """A report that is no evaluation's."""
    parts = [f"# {markdown(title)}", *[markdown(line) for line in opening]]
    for section in sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table with the strongest attack of each threat model in bold."""
    lines = [[*table.heads, *(markdown(column.title) for column in table.columns), *table.ends]]
    lines.append([*[":--"] * len(table.heads), *["--:"] * len(table.columns), *[":--"] * len(table.ends)])
    for row in table.rows:
        cells = [_cell(cell, table) for cell in row.cells]
        lines.append([*map(markdown, row.labels), *cells, *map(markdown, row.ends)])
    return _rows(lines)


def markdown_text_table(text_table: formatting.TextTable) -> str:
    """A plain table; a dash where it has no rows."""
    if not text_table.rows:
        return "None."
    align = ["--:" if head in text_table.numbers else ":--" for head in text_table.heads]
    return _rows([text_table.heads, align, *([markdown(text) for text in row] for row in text_table.rows)])


def bullets(texts: Sequence[str]) -> str:
    """A list, one line each."""
    return "\n".join(f"- {markdown(text)}" for text in texts)


def facts(listed: dict[str, str]) -> str:
    """A list of facts, one line each."""
    return "\n".join(f"- **{markdown(about)}:** {markdown(text)}" for about, text in listed.items())


def _section(section: Section) -> list[str]:
    return [f"## {markdown(section.title)}", *(text for block in section.blocks for text in _block(block))]


def _block(block: Block) -> list[str]:
    """The paragraphs of one block."""
    match block:
        case Legend(text):
            return [markdown(text)]
        case Bullets(texts):
            return [bullets(texts)]
        case Facts(listed):
            return [facts(listed)]
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
        case Table():
            return [markdown_table(block)]
        case formatting.TextTable():
            return [markdown_text_table(block)]


def _cell(cell: TableCell, table: Table) -> str:
    """The accuracy and its interval, and what else there is on lines below it."""
    (accuracy, strongest), *others = cell.texts(table)
    shown = [f"**{accuracy}**" if strongest else accuracy]
    shown += [f"<sub>{'**' * bold}{markdown(text)}{'**' * bold}</sub>" for text, bold in others]
    return "<br>".join([" ".join(shown[:2]), *shown[2:]])


def _rows(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
