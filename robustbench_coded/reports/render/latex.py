"""Tables in LaTeX that fit one column of a two-column paper, for a document that loads booktabs."""

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby, zip_longest

from robustbench_coded.errors import InputError
from robustbench_coded.reports.run.tables import Column, Table, TableCell, TableRow, narrowed
from robustbench_coded.reports.text.attack_names import paper_name
from robustbench_coded.reports.text.escape import latex, shortened
from robustbench_coded.reports.text.formatting import threat_text
from robustbench_coded.schema.words import CONTROLS

COLUMN_WIDTH = 234.0  # points: the narrowest column of the usual conferences
BETWEEN = 6.0  # between two columns
HEAD = 11  # characters of a line of an attack's name, if it has a joint there
LABEL, LABEL_LINE = 30, 13  # characters of a checkpoint's name, and of a line of it
GROUP = 50  # characters of what stands above a group of rows
CAPTION = 1000
PACKAGE = "% Needs \\usepackage{booktabs}.\n"
NEW_LINE = r"\\"
_JOINT = re.compile(r"(?<=[+=:/ ])|(?<=-)(?!\d)|(?=@)")
_NARROW, _WIDE = frozenset("ijlt.,:;()[] -'"), frozenset("mwMWQO@%=+")


def latex_table(table: Table, attacks: Sequence[str] = ()) -> str:
    """Accuracies and differences in percent with intervals, the strongest attacks in bold.

    What is wider than a column of a page is cut into parts, one below the other.

    Args:
        attacks: columns by their attack, or by attack and threat model (``ensemble batch/known``); none:
            clean inputs, FGSM and PGD, the strongest attacks and the ensemble.

    Raises:
        InputError: the table has no column of that name.
    """
    table = _chosen(table, attacks) if attacks else narrowed(table)
    threats = list(dict.fromkeys(c.threat for c in table.columns if c.attack not in CONTROLS))
    several = len(threats) > 1
    parts = [_tabular(part, several=several) for part in _parts(table, several=several)]
    name = re.sub("[^a-z0-9]+", "-", table.title.lower()).strip("-")
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{latex(_caption(table, threats), CAPTION)}}}",
        rf"\label{{tab:{name}}}",
        "\n\\par\\medskip\n".join(parts),
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


def _caption(table: Table, threats: Sequence[object]) -> str:
    sizes = {row.subject.k for row in table.rows if row.subject.k is not None}
    batches = f" in batches of {min(sizes)}" if len(sizes) == 1 and "K" not in table.heads else ""
    attackers = [f"{threat}: {threat_text(threat)}" for threat in threats]  # type: ignore[arg-type]
    if len(attackers) == 1:
        attackers = [f"Threat model {attackers[0]}"]
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    sentences = [
        f"{table.title}. Percent of {table.examples:,} test images{batches}, with 95% intervals",
        *attackers,
        "Bold: the strongest single attack" + (" of its threat model" if len(attackers) > 1 else ""),
    ]
    if any(column.attack == "ensemble" for column in table.columns):
        sentences.append("Ensemble: for each image the strongest attack on other draws")
    if any(cell.difference for cell in cells):
        sentences.append("Signed: paired difference from the baseline in points, bold where it is not chance")
    sentences += [table.kinds.rstrip(".")] if table.kinds else []
    return ". ".join(sentences) + "."


def _parts(table: Table, *, several: bool) -> list[Table]:
    """The table cut into tables that fit a column, each as wide as the others where that is possible."""
    labels = [table.heads[-1], *(line for row in table.rows for line in _label(table, row.labels))]
    count, room = len(table.columns), COLUMN_WIDTH - BETWEEN - max(map(_width, labels))
    widths = [_width_of(table, place, several=several) for place in range(count)]
    for parts in range(1, count + 1):
        cuts = [range(i * count // parts, (i + 1) * count // parts) for i in range(parts)]
        if parts == count or all(sum(widths[i] for i in cut) <= room for cut in cuts):
            return [table.of_columns(cut) for cut in cuts]
    return []


def _width_of(table: Table, place: int, *, several: bool) -> float:
    cells = [row.cells[place] for row in table.rows]
    texts = _head(table.columns[place], several=several)
    texts += [text for cell in cells if cell is not None for text, _ in _lines(cell, table.examples)]
    return max(map(_width, texts)) + BETWEEN


def _width(text: str) -> float:
    """Points in the 7 point roman of LaTeX, rounded up."""
    return sum(2.8 if c in _NARROW else 6.3 if c in _WIDE else 5.2 if c.isupper() else 4.05 for c in text)


def _tabular(table: Table, *, several: bool) -> str:
    """A tabular; rows of one inference stand below its name."""
    columns = rf"@{{}}l{'r' * len(table.columns)}@{{}}"
    heads = [_stack([latex(line) for line in _head(c, several=several)]) for c in table.columns]
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([latex(", ".join(table.heads[_shared(table) :])), *heads]),
    ]
    for group, rows in groupby(table.rows, key=lambda row: row.labels[: _shared(table)]):
        lines.append(r"\midrule")
        if group:
            name = rf"\textit{{{latex(', '.join(group), GROUP)}}}"
            lines.append(rf"\multicolumn{{{len(table.columns) + 1}}}{{@{{}}l@{{}}}}{{{name}}} {NEW_LINE}")
        lines += [_row(table, row) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _shared(table: Table) -> int:
    """How many labels stand above a group of rows; a batch size and N stand in one row."""
    return 0 if "K" in table.heads else len(table.heads) - 1


def _row(table: Table, row: TableRow) -> str:
    """A line of the table for each line of its label and its cells."""
    return "\n".join(_line(list(map(_text, line))) for line in zip_longest(*_cells_of(table, row))) + "[2pt]"


def _cells_of(table: Table, row: TableRow) -> list[list[tuple[str, bool]]]:
    label = [(text, False) for text in _label(table, row.labels)]
    return [label, *([] if cell is None else _lines(cell, table.examples) for cell in row.cells)]


def _label(table: Table, labels: Sequence[str]) -> list[str]:
    return textwrap.wrap(shortened(", ".join(labels[_shared(table) :]), LABEL), LABEL_LINE)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} {NEW_LINE}"


def _stack(parts: Sequence[str]) -> str:
    return rf"\shortstack[r]{{{NEW_LINE.join(parts)}}}" if len(parts) > 1 else parts[0]


def _head(column: Column, *, several: bool) -> list[str]:
    """The lines of an attack's name, and its threat model where the table has several."""
    named = paper_name(column.attack)
    names = [named, *([str(column.threat)] if several and column.attack not in CONTROLS else [])]
    lines: list[str] = []
    for name in names:
        lines.append("")
        for piece in _JOINT.split(name):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > HEAD:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _lines(cell: TableCell, examples: int) -> list[tuple[str, bool]]:
    """The lines of a cell, and which are bold; the interval of a difference has a line of its own."""
    lines = []
    for text, bold in cell.texts(examples):
        figure, bracket, ends = text.partition(" [")
        lines += [(figure, bold), (bracket.strip() + ends, False)] if bracket else [(text, bold)]
    return lines


def _text(shown: tuple[str, bool] | None) -> str:
    if shown is None:
        return ""
    text = latex(re.sub(r"(?<![\w-])-(?=\d)", "−", shown[0].replace("–", "")))
    return rf"\textbf{{{text}}}" if shown[1] else text
