"""A figure and its numbers, as files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.render.markdown import markdown_text_table
from robustbench_coded.reports.text import escape, formatting
from robustbench_coded.runs.atomic import write_text

Numbers = Mapping[str, Sequence[object]]  # column -> values, all of one length


@dataclass(frozen=True)
class PaperFigure:
    """Attributes:
    drawing: what is seen.
    tables: name of a CSV file without ending -> its columns.
    summary: the same in few figures.
    paper: what the paper says there.
    """

    drawing: Drawing
    tables: Mapping[str, Numbers]
    summary: formatting.TextTable | None = None
    paper: str = ""


def write_figure(figure: PaperFigure, folder: Path) -> list[Path]:
    """Writes NAME.svg, the tables, and NAME.md where there is a summary; returns the paths."""
    picture = figure.drawing.write(folder)
    tables = {f"{name}.csv": _csv(numbers) for name, numbers in figure.tables.items()}
    if figure.summary is not None:
        tables[f"{figure.drawing.name}.md"] = _page(figure.drawing, figure.summary, figure.paper)
    for name, text in tables.items():
        write_text(folder / name, text)
    return [picture, *(folder / name for name in tables)]


def _page(drawn: Drawing, summary: formatting.TextTable, paper: str) -> str:
    parts = [
        f"# {escape.markdown(drawn.title)}",
        f"![{escape.markdown(drawn.title)}]({drawn.name}.svg)",
        escape.markdown(drawn.caption),
        markdown_text_table(summary),
        f"**Paper.** {escape.markdown(paper)}",
    ]
    return "\n\n".join(parts) + "\n"


def _csv(numbers: Numbers) -> str:
    return escape.csv_document(
        numbers, ([_cell(value) for value in row] for row in zip(*numbers.values(), strict=True))
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return escape.csv_text(value)
    return f"{value:.8g}" if isinstance(value, float) else str(value)
