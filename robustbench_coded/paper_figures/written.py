"""A figure and its numbers, as files."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.text.escape import csv_text
from robustbench_coded.runs.atomic import write_bytes, write_text

Numbers = Mapping[str, Sequence[object]]  # column -> values, all of one length


@dataclass(frozen=True)
class PaperFigure:
    """Attributes:
    drawing: what is seen.
    tables: name of a CSV file without ending -> its columns.
    """

    drawing: Drawing
    tables: Mapping[str, Numbers]


def write_figure(figure: PaperFigure, folder: Path) -> list[Path]:
    """Writes NAME.svg, NAME.png and the tables; returns the paths."""
    files = {
        f"{figure.drawing.name}.svg": figure.drawing.svg,
        f"{figure.drawing.name}.png": figure.drawing.png,
    }
    for name, content in files.items():
        write_bytes(folder / name, content)
    tables = {f"{name}.csv": _csv(numbers) for name, numbers in figure.tables.items()}
    for name, text in tables.items():
        write_text(folder / name, text)
    return [folder / name for name in (*files, *tables)]


def _csv(numbers: Numbers) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(numbers)
    for row in zip(*numbers.values(), strict=True):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return csv_text(value)
    return f"{value:.8g}" if isinstance(value, float) else str(value)
