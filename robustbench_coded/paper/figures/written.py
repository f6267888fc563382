"""A figure and its numbers, as files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_coded.paper.studies.over_seeds import csv_cell
from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.render.markdown import markdown_text_table
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.runs.atomic import write_text

Numbers = Mapping[str, Sequence[object]]  # column -> values, all of one length


@dataclass(frozen=True)
class PaperFigure:
    """Attributes:
    drawing: what is seen.
    numbers: the columns of its CSV file.
    summary: the same in few figures.
    paper: what the paper says there.
    """

    drawing: Drawing
    numbers: Numbers
    summary: formatting.TextTable
    paper: str


def write_figure(figure: PaperFigure, folder: Path) -> list[Path]:
    """Writes NAME.svg, NAME.csv and NAME.md; returns the paths."""
    paths = [
        figure.drawing.write(folder),
        *(folder / f"{figure.drawing.name}.{end}" for end in ("csv", "md")),
    ]
    rows = ([csv_cell(value, 8) for value in row] for row in zip(*figure.numbers.values(), strict=True))
    write_text(paths[1], escape.csv_document(figure.numbers, rows))
    write_text(paths[2], _page(figure.drawing, figure.summary, figure.paper))
    return paths


def _page(drawn: Drawing, summary: formatting.TextTable, paper: str) -> str:
    parts = [
        f"# {escape.markdown(drawn.title)}",
        f"![{escape.markdown(drawn.title)}]({drawn.name}.svg)",
        escape.markdown(drawn.caption),
        markdown_text_table(summary),
        f"**Paper.** {escape.markdown(paper)}",
    ]
    return "\n\n".join(parts) + "\n"
