"""Tables in LaTeX, for a document that loads booktabs."""

from robustbench_coded.reports.compare.comparison import LEGEND
from robustbench_coded.reports.run.tables import Column, Table, TableCell
from robustbench_coded.reports.text.escape import latex
from robustbench_coded.reports.text.formatting import TextTable, interval, percent, settled

CAPTION_WIDTH = 1000
NEW_LINE = r"\\"


def latex_table(table: Table) -> str:
    """Accuracies, intervals and differences in percent, the strongest attacks in bold."""
    return _environment(
        "l" * len(table.heads) + "r" * len(table.columns),
        f"{table.title}. {LEGEND}",
        [*map(latex, table.heads), *map(_head, table.columns)],
        [[*map(latex, row.labels), *map(_cell, row.cells)] for row in table.rows],
    )


def latex_text_table(table: TextTable, caption: str) -> str:
    """A plain table; figures stay as they are written, with signs for hyphens."""
    columns = "".join("r" if head in table.numbers else "l" for head in table.heads)
    rows = [_plain_cells(table, row) for row in table.rows]
    return _environment(columns, caption, [*map(latex, table.heads)], rows)


def _environment(columns: str, caption: str, heads: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are LaTeX already; the caption is plain text."""
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{latex(caption, CAPTION_WIDTH)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(heads),
        r"\midrule",
        *map(_line, rows),
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _plain_cells(table: TextTable, row: tuple[str, ...]) -> list[str]:
    cells = zip(table.heads, map(latex, row), strict=True)
    return [text.replace("-{}", "$-$") if head in table.numbers else text for head, text in cells]


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} {NEW_LINE}"


def _stack(parts: list[str]) -> str:
    return rf"\shortstack[r]{{{NEW_LINE.join(parts)}}}" if len(parts) > 1 else parts[0]


def _head(column: Column) -> str:
    null = column.attack in ("clean", "random-sign")
    return _stack([latex(column.attack)] if null else [latex(column.attack), latex(column.threat)])


def _cell(cell: TableCell | None) -> str:
    if cell is None:
        return ""
    line = cell.line
    accuracy = percent(line.accuracy).replace("–", "--")
    parts = [rf"\textbf{{{accuracy}}}" if cell.strongest else accuracy]
    if line.low is not None:
        parts.append(latex(interval(line.low, line.high)))
    if not line.done:
        parts.append(f"{line.examples}/{line.examples_planned}")
    if cell.difference is not None:
        said = f"${100 * cell.difference.estimate:+.1f}$"
        parts.append(rf"\boldmath{said}\unboldmath" if settled(cell.difference) else said)
    if cell.paper is not None:
        parts.append(f"paper {percent(cell.paper)}")
    return _stack(parts)
