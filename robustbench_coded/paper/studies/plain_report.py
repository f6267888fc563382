"""Writes a report that is no evaluation's, each file whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.reports.render.html import plain_html
from robustbench_coded.reports.render.markdown import plain_markdown
from robustbench_coded.reports.render.sections import Figures, Section
from robustbench_coded.runs.atomic import write_text


def write_plain(folder: Path, title: str, opening: Sequence[str], sections: Sequence[Section]) -> None:
    """Writes report.md, report.html and the figures that they show."""
    write_text(folder / "report.md", plain_markdown(title, opening, sections))
    write_text(folder / "report.html", plain_html(title, opening, sections))
    for block in (block for section in sections for block in section.blocks):
        for figure in block.figures if isinstance(block, Figures) else ():
            figure.write(folder / "figures")
