"""docs/numbers.md: its error rates are those of the tables behind it."""

import re
from pathlib import Path

import pytest

from benchmarks.errors import error_rates

ROOT = Path(__file__).parents[2]

PAGE = (ROOT / "docs" / "numbers.md").read_text()


def test_the_error_rates_are_those_of_the_tables():
    shown = PAGE.split("<!-- error-rates: begin -->")[1].split("<!-- error-rates: end -->")[0].strip()
    assert shown.splitlines() == list(error_rates.table()), (
        "run python benchmarks/errors/error_rates.py --write"
    )


@pytest.mark.parametrize("name", [name for name in error_rates.ROWS if name.startswith("These images")])
def test_what_is_said_of_these_images_errs_as_rarely_as_promised_in_every_cell(name):
    errors = [
        error
        for end in ("lower end", "upper end")
        for error in error_rates.errors_of(error_rates.ROWS[name], end)
    ]
    assert len(errors) >= 4 and max(errors) <= 2.5


def test_every_table_is_written_by_a_benchmark():
    text = error_rates.TABLES.read_text()
    tables = re.findall(r"<!-- ([\w-]+): begin -->", text)
    assert len(tables) == len(set(tables)) > 5
    for table in tables:
        assert f"<!-- {table}: end -->" in text and len(error_rates.lines_of(table)) >= 4
