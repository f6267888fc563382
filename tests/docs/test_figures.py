"""Figures in README.md and docs/ stand in the committed tables that they are quoted from; those of
tied_numbers.csv, which has a page, its words and a row, are of that row."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.evidence import page_of, read, rows_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURE = re.compile(r"(?<![\d.])\d+\.\d(?![\d.])")
LINK = re.compile(r"\]\((?:\.\./)?((?:reports|benchmarks)/[\w./-]+(?:#[\w-]+)?)")
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
    """All numbers of a page, and of the tables beside it as they are and in percent, without their signs; of
    a page with the reports of several runs, those of the run that is linked.
    """
    name, _, anchor = file.partition("#")
    path = ROOT / name
    rows = [row for table in path.parent.glob("*.csv") for row in read(table)]
    text = path.read_text()
    if anchor:
        own = {run for run in {row["run"] for row in rows} if f"reports/{page_of(run)}" == file}
        rows = [row for row in rows if row["run"] in own]
        (text,) = (
            part for run in own for part in text.split("\n## ") if part.startswith(f"{Path(run).name}\n")
        )
    cells = [cell for row in rows for cell in row.values()]
    numbers = [abs(float(cell)) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?", cell)]
    written = FIGURE.findall(text) if path.suffix == ".md" else []
    return {f"{scale * number:.1f}" for number in numbers for scale in (1, 100)}.union(written)


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
    assert sum(len(FIGURE.findall(block)) for page in PAGES for block, _ in linked(page)) > 200


def figure(tied):
    """In percent, of the one row at a perturbation that the run gives verdicts for."""
    judged = {row["eps"] for row in rows_of(tied["run"])}
    more = dict(pair.split("=") for pair in tied["more"].split())
    wanted = {"threat": "batch/unknown", "defence": tied["defence"], "attack": tied["attack"], **more}
    summary = [row for row in rows_of(tied["run"], "summary") if row["eps"] in judged]
    (found,) = (row for row in summary if all(row[name] == value for name, value in wanted.items()))
    return f"{100 * float(found[tied['column']]):.1f}"


@pytest.mark.parametrize(
    "tied", read(Path(__file__).with_name("tied_numbers.csv")), ids=lambda tied: tied["words"]
)
def test_a_figure_is_that_of_its_row(tied):
    page = tied["page"] if "/" in tied["page"] else f"docs/{tied['page']}"
    text = " ".join((ROOT / f"{page}.md").read_text().split())
    assert tied["words"].format(figure(tied)) in text


def test_the_costs_of_table_4_are_those_of_the_table_that_is_linked():
    page = " ".join((ROOT / "docs" / "paper.md").read_text().split())
    table = (ROOT / "benchmarks" / "speed" / "speed-cpu.md").read_text()
    section = table.partition("### Inference, Table 4")[2].partition("\n### ")[0]
    cost = {
        name: f"{float(ratio):.2f}"
        for name, ratio in re.findall(r"\| \d+ \| (\w+ K=128 N=\d+) \|[^|]+\| ([\d.]+) \[", section)
    }
    assert (
        f"coded inference costs {cost['coded K=128 N=128']} times standard inference at N = K = 128 and "
        f"{cost['coded K=128 N=192']} times at N = 192, RCI {cost['RCI K=128 N=128']} and "
        f"{cost['RCI K=128 N=192']} times"
    ) in page
