"""Figures in README.md and docs/ stand in the committed tables that they are quoted from."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INTERVAL = re.compile(r"[-+]?(\d+\.\d+)%? \[[-+]?(\d+\.\d+),\s[-+]?(\d+\.\d+)\]")
FIGURE = re.compile(r"(?<![\d.])\d+\.\d(?![\d.])")
LINK = re.compile(r"\]\((?:\.\./)?((?:reports|benchmarks)/[\w./-]+)")
CODE = re.compile(r"`[^`]*`|<!-- mnist: begin -->.*?<!-- mnist: end -->", re.DOTALL)  # no outcomes committed


def linked(page: Path) -> Iterator[tuple[str, set[str]]]:
    """Paragraphs and lines of tables with the files that they, or the paragraph before a table, link to."""
    links: set[str] = set()
    for block in re.split(r"\n\n|\n(?=\|)", CODE.sub("", page.read_text())):
        own = set(LINK.findall(block))
        links = own if not block.startswith("|") else links
        if own or links:
            yield block, own or links


@cache
def figures(file: str) -> set[str]:
    """All numbers of a page, and of the tables beside it as they are and in percent, without their signs."""
    path = ROOT / file
    cells = [cell for table in path.parent.glob("*.csv") for row in csv.reader(table.open()) for cell in row]
    numbers = [abs(float(cell)) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?", cell)]
    written = FIGURE.findall(path.read_text()) if path.suffix == ".md" else []
    return {f"{scale * number:.1f}" for number in numbers for scale in (1, 100)}.union(written)


@pytest.fixture(scope="module")
def intervals():
    """All intervals of the committed tables, without their signs."""
    found = set()
    for file in REPORTS.glob("**/*.csv"):
        for row in csv.DictReader(file.open()):
            for low in [name for name in row if name.endswith("_low") or name.startswith("ci_low")]:
                middle = "gain" if low == "gain_low" else low.replace("ci_low", "accuracy", 1)
                names = (middle, low, low.replace("low", "high", 1))
                if all(row.get(name) for name in names):
                    found.add(tuple(f"{100 * abs(float(row[name])):.1f}" for name in names))
    for file in (*REPORTS.glob("**/*.md"), *(ROOT / "benchmarks").glob("*/*.md")):
        found.update(INTERVAL.findall(file.read_text().replace("\\", "")))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_interval_stands_in_a_committed_table(page, intervals):
    assert [
        quoted for quoted in INTERVAL.findall(CODE.sub("", page.read_text())) if quoted not in intervals
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_beside_a_link_stand_in_what_is_linked(page):
    strange = {
        figure: files
        for block, files in linked(page)
        for figure in FIGURE.findall(block)
        if figure not in set().union(*map(figures, files))
    }
    assert not strange


def test_enough_figures_are_looked_at():
    assert sum(len(INTERVAL.findall(page.read_text())) for page in PAGES) > 60
    assert sum(len(FIGURE.findall(block)) for page in PAGES for block, _ in linked(page)) > 200
