"""docs/numbers.md: its error rates are those of the tables behind it."""

import re
from pathlib import Path

import pytest

from benchmarks.errors import coverage

PAGES = (coverage.NUMBERS, coverage.TABLES)


def table(page: Path, name: str) -> list[list[str]]:
    """The lines of a table, without its head."""
    text = page.read_text().split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_both_pages_have_the_same_error_rates():
    assert table(coverage.NUMBERS, "error-rates") == table(coverage.TABLES, "error-rates")


def test_the_worst_cells_are_those_of_the_full_table():
    cells = table(coverage.TABLES, "cells")
    assert len(cells) > 250
    for name, nominal, count, lower, upper, chance in table(coverage.NUMBERS, "error-rates"):
        formula, _, broken = name.strip("*").partition(": ")
        own = [cell for cell in cells if cell[0] == formula]
        assert int(count) <= len(own) and nominal == "2.5%"
        for end, of in ((3, lower), (4, upper)):
            worst = max(float(cell[end].rstrip("%")) for cell in own)
            assert float(of.rstrip("%")) <= round(worst, 1)
            if not broken:
                assert float(of.rstrip("%")) <= float(chance.rstrip("%")), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_has_its_marks(page):
    text = page.read_text()
    for name in re.findall(r"<!-- ([\w-]+): begin -->", text):
        assert f"<!-- {name}: end -->" in text and table(page, name)
