"""Reports that are no evaluation's: report.md, details.md, report.html and figures, of the same sections."""

from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.reports.figures.style import Drawing
from robustbench_coded.reports.render.html import plain_html
from robustbench_coded.reports.render.markdown import plain_details, plain_markdown
from robustbench_coded.reports.render.sections import Figures, Section
from robustbench_coded.runs.atomic import write_text


def write_plain(folder: Path, title: str, opening: Sequence[str], sections: Sequence[Section]) -> None:
    """Writes report.md, details.md (where there are any), report.html and the figures that they show."""
    write_text(folder / "report.md", plain_markdown(title, opening, sections))
    if any(section.detail for section in sections):
        write_text(folder / "details.md", plain_details(title, sections))
    write_text(folder / "report.html", plain_html(title, opening, sections))
    for figure in _figures(sections):
        figure.write(folder / "figures")


def _figures(sections: Sequence[Section]) -> list[Drawing]:
    blocks = [block for section in sections for block in section.blocks]
    return [figure for block in blocks if isinstance(block, Figures) for figure in block.figures]
