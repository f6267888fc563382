"""Figures of the pages are those of the committed runs: a program writes them between marks, tied_numbers.csv
ties others to a row by the words around them, and the rest stands in what is linked beside it.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.evidence import REPORTS, page_of, read, rows_of
from docs.finding_study import protocol_head
from tests.docs.conftest import module_at

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = [page for page in PAGES if page.stem != "options"]  # which docs/options.py writes whole
TABLES += [ROOT / "reports" / "README.md", ROOT / "benchmarks" / "README.md"]
# Tables that other programs write, each with a test of its own; `compared` is run by a long test.
WRITTEN_ELSEWHERE = ("attacks", "rungs", "needs", "error-rates", "gains", "networks", "compared")
MARKED = re.compile(r"<!-- ([\w-]+): begin -->.*?<!-- \1: end -->", re.DOTALL)
QUOTED = re.compile(r"`[^`\n]*`|[^|]*://[^|]*|CIFAR-10\.\d|\d\.\d ?K\b")
MEASURED = re.compile(r"(?<![\d.])\d{1,3}\.\d+(?![\d.])|\b\d+ (?:seconds|minutes|min|hours|h|s|MB|GB)\b")
FIGURE = re.compile(r"(?<![\d.])\d+\.\d(?![\d.])")
LINK = re.compile(r"\]\((?:\.\./)?((?:reports|benchmarks)/[\w./-]+(?:#[\w-]+)?)")


def linked(page: Path) -> Iterator[tuple[str, set[str]]]:
    """Paragraphs and lines of tables with the files that they, or the paragraph before a table, link to."""
    links: set[str] = set()
    for block in re.split(r"\n\n|\n(?=\|)", re.sub(r"`[^`]*`", "", MARKED.sub("", page.read_text()))):
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


def figure(tied):
    """In percent, of the one row at a perturbation with verdicts: of a verdict if no attack is named."""
    judged = {row["eps"] for row in rows_of(tied["run"])}
    more = dict(pair.split("=") for pair in tied["more"].split())
    wanted = {"threat": "batch/unknown", "defence": tied["defence"], **more}
    if tied["attack"]:
        wanted["attack"] = tied["attack"]
    rows = rows_of(tied["run"], "summary" if tied["attack"] else "verdicts")
    (found,) = (
        row
        for row in rows
        if row["eps"] in judged and all(row[name] == value for name, value in wanted.items())
    )
    return f"{100 * float(found[tied['column']]):.1f}"


TIED = read(Path(__file__).with_name("tied_numbers.csv"))


def page_of_words(tied):
    return ROOT / (f"{tied['page']}.md" if "/" in tied["page"] else f"docs/{tied['page']}.md")


@pytest.mark.parametrize("tied", TIED, ids=lambda tied: tied["words"])
def test_a_figure_is_that_of_its_row(tied):
    text = " ".join(page_of_words(tied).read_text().split())
    assert tied["words"].format(figure(tied)) in text


def by_hand(page, text):
    """Lines of tables with a measured figure outside marks that is not tied to its row.

    What stands in code is an option or a name, and a cell that links to another host quotes it.
    """
    ties = [
        (tied["words"].partition("{}")[0], tied["words"].format(figure(tied)))
        for tied in TIED
        if page_of_words(tied) == page
    ]
    for line in MARKED.sub("", text).splitlines():
        if line.startswith("|"):
            tied = {line.find(words) + len(before) for before, words in ties if words in line}
            measured = MEASURED.finditer(QUOTED.sub(lambda quoted: " " * len(quoted[0]), line))
            if any(found.start() not in tied for found in measured):
                yield line


@pytest.fixture(scope="module")
def findings():
    return module_at(ROOT / "docs" / "readme_findings.py")


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.parent.name + "-" + page.stem)
def test_no_table_has_a_figure_by_hand(page, findings):
    text = page.read_text()
    assert not [*by_hand(page, text)]
    assert findings.with_blocks(text) == text, f"{page.name}: run python docs/readme_findings.py and commit"
    assert set(MARKED.findall(text)) <= {*WRITTEN_ELSEWHERE, *findings.BLOCKS}


@pytest.mark.parametrize(
    ("name", "cell", "planted"),
    [
        ("README.md", "| 97.7 |", "| 98.7 |"),
        ("docs/finding.md", "17.6 [8.1, 30.6]", "17.6 [8.2, 30.6]"),
        ("docs/pitfalls.md", "JPEG: 97.7 under", "JPEG: 98.7 under"),
        ("docs/coming-from.md", "| `+momentum=1` |", "| `+momentum=1`, 58.6 |"),
        ("reports/README.md", "| 37.5 |", "| 36.3 |"),
        ("benchmarks/README.md", "| 1.52 |", "| 1.53 |"),
        ("benchmarks/README.md", "| a minute |", "| 2 min |"),
    ],
)
def test_a_planted_cell_is_found(name, cell, planted, findings):
    page = ROOT / name
    text = page.read_text().replace(cell, planted)
    assert text != page.read_text()
    assert findings.with_blocks(text) != text or [*by_hand(page, text)]


def test_the_speed_is_what_it_should_be(findings):
    rows = [line.strip("| ").split(" | ") for line in findings.run_tables.ratios().splitlines()[2:]]
    assert len(rows) == 8
    for name, ratio, bound in rows:
        side, limit = bound.rsplit(" ", 1)
        assert (float(ratio) >= float(limit)) if side == "at least" else (float(ratio) <= float(limit)), name


def test_reports_without_outcomes_name_their_protocol():
    """Their figures and words are those of that protocol, and tables that quote them say so."""
    for row in read(REPORTS / "evidence.csv"):
        name, _, anchor = page_of(row["run"]).partition("#")
        if anchor:
            sections = (REPORTS / name).read_text().split("\n## ")
            (report,) = (text for text in sections if text.startswith(f"{Path(row['run']).name}\n"))
            assert f", protocol {row['protocol']}, " in report
        assert protocol_head(row["run"]) == (f"protocol {row['protocol']}" if anchor else "")
