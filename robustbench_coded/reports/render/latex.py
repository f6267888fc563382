"""Tables in LaTeX that fit one column of a two-column paper, for a document that loads booktabs and
graphicx."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, zip_longest

from robustbench_coded.errors import InputError
from robustbench_coded.reports.run.tables import Table, TableCell, TableRow
from robustbench_coded.reports.text.escape import latex, shortened
from robustbench_coded.reports.text.formatting import kinds_text

COLUMNS = 4  # of a tabular, beside that of the labels
LINES = 44  # of all tabulars of a table environment, less their heads: what a page holds
HEAD = 11  # characters of a line of an attack's name, if it has a space there
LABEL, LABEL_LINE = 30, 13  # characters of a checkpoint's name, and of a line of it
CELL = 16  # characters of a line of a cell, if it has a space there
GROUP = 50  # characters of what stands above a group of rows
CAPTION = 1000
PACKAGES = "% Needs \\usepackage{booktabs,graphicx}.\n"
NEW_LINE = r"\\"
# As wide as a column of the page where it would be wider.
SCALED = r"\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{%"


def latex_table(table: Table, attacks: Sequence[str] = ()) -> str:
    """Accuracies and differences in percent with intervals, the strongest attacks in bold.

    Many columns are cut into parts, one below the other; many rows go on in further table environments.

    Args:
        attacks: columns by their attack, or by attack and threat model (``ensemble batch/known``); none: all.

    Raises:
        InputError: the table has no column of that name.
    """
    table = _chosen(table, attacks) if attacks else table
    count = len(table.columns)
    parts = max(1, -(-count // COLUMNS))
    cuts = [range(i * count // parts, (i + 1) * count // parts) for i in range(parts)]
    pages: list[list[TableRow]] = []
    room = 0
    for row in table.rows:
        lines = _row(table, row).count(NEW_LINE)
        if lines > room:
            pages, room = [*pages, []], LINES // parts
        pages[-1].append(row)
        room -= lines
    environments = []
    for place, rows in enumerate(pages):
        page = replace(table, rows=tuple(rows))
        tabulars = [_tabular(page.of_columns(cut)) for cut in cuts]
        environments.append(_environment(table, tabulars, place))
    return "\n".join(environments)


def _environment(table: Table, tabulars: Sequence[str], place: int) -> str:
    """One table environment, which fits a page; all but the first continue it."""
    caption = f"{table.title} (continued)." if place else _caption(table)
    name = re.sub("[^a-z0-9]+", "-", table.title.lower()).strip("-") + (f"-{place + 1}" if place else "")
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{latex(caption, CAPTION)}}}",
        rf"\label{{tab:{name}}}",
        "\n\\par\\medskip\n".join(tabulars),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _chosen(table: Table, attacks: Sequence[str]) -> Table:
    names = [(c.attack, f"{c.attack} {c.threat}") for c in table.columns]
    for attack in attacks:
        if not any(attack in both for both in names):
            known = ", ".join(dict.fromkeys(name for name, _ in names))
            raise InputError(f"--attacks {attack!r} is no column of the table; it has {known}")
    return table.of_columns([i for attack in attacks for i, both in enumerate(names) if attack in both])


def _caption(table: Table) -> str:
    bold = "Bold: the strongest single attack of its threat model."
    return " ".join(filter(None, [f"{table.title}.", table.legend, kinds_text(table.kinds), bold]))


def _tabular(table: Table) -> str:
    """A tabular; rows of one inference stand below its name."""
    titles = (*(column.title for column in table.columns), *table.ends)
    columns = rf"@{{}}l{'r' * len(titles)}@{{}}"
    heads = [_stack([latex(line) for line in _wrapped(title, HEAD)]) for title in titles]
    lines = [
        SCALED,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([latex(", ".join(table.heads[_shared(table) :])), *heads]),
    ]
    for group, rows in groupby(table.rows, key=lambda row: row.labels[: _shared(table)]):
        lines.append(r"\midrule")
        if group:
            name = rf"\textit{{{latex(', '.join(group), GROUP)}}}"
            lines.append(rf"\multicolumn{{{len(titles) + 1}}}{{@{{}}l@{{}}}}{{{name}}} {NEW_LINE}")
        lines += [_row(table, row) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}"])


def _shared(table: Table) -> int:
    """How many labels stand above a group of rows; a batch size and N stand in one row."""
    return 0 if "K" in table.heads else len(table.heads) - 1


def _row(table: Table, row: TableRow) -> str:
    """A line of the table for each line of its label and its cells."""
    label = textwrap.wrap(shortened(", ".join(row.labels[_shared(table) :]), LABEL), LABEL_LINE)
    ends = [[(line, False) for line in _wrapped(text, CELL)] for text in row.ends]
    lines = zip_longest(
        [(text, False) for text in label], *(_lines(cell, table) for cell in row.cells), *ends
    )
    return "\n".join(_line(list(map(_text, line))) for line in lines) + "[2pt]"


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} {NEW_LINE}"


def _stack(parts: Sequence[str]) -> str:
    return rf"\shortstack[r]{{{NEW_LINE.join(parts)}}}" if len(parts) > 1 else parts[0]


def _lines(cell: TableCell, table: Table) -> list[tuple[str, bool]]:
    """The lines of a cell, and which are bold; the interval of a difference has a line of its own."""
    lines = []
    for text, bold in cell.texts(table):
        figure, bracket, ends = text.partition(" [")
        lines += [(line, bold) for line in _wrapped(figure, CELL)]
        lines += [(bracket.strip() + ends, False)] if bracket else []
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that end at spaces alone."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _text(shown: tuple[str, bool] | None) -> str:
    if shown is None:
        return ""
    text = latex(re.sub(r"(?<![\w-])-(?=\d)", "−", shown[0].replace("–", "")))
    return rf"\textbf{{{text}}}" if shown[1] else text
