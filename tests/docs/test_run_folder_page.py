"""docs/run-folder.md promises a schema: it names every column and field that a run has, and no other."""

import csv
import re
from pathlib import Path
from typing import get_args

import pytest

from robustbench_coded.runs.folder import FORMAT_VERSION
from robustbench_coded.runs.log import Event
from robustbench_coded.runs.outcomes import SCHEMA

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "run-folder.md").read_text()
RUN = ROOT / "reports" / "digits"
ON_REQUEST = {"reached", "ci_low_reached", "ci_high_reached", "faulty"}


def named(file: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    section = PAGE.split(f"\n## {file}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize("file", ["summary.csv", "verdicts.csv"])
def test_the_columns_of_a_table_are_those_of_the_page(file):
    """The committed tables are those that this version writes: tests/reports/test_committed_reports.py."""
    with (RUN / file).open() as lines:
        columns = next(csv.reader(lines))
    case = [name for name in named("Conventions") if name in columns]
    assert case + [name for name in named(file) if name not in ON_REQUEST] == columns


def test_the_columns_of_outcome_files_are_those_of_the_page():
    assert named("Conventions") + named("outcomes.parquet") == SCHEMA.names


def test_the_events_of_the_log_and_the_format_are_those_of_the_page():
    section = PAGE.split("\n## log.jsonl\n")[1].split("\n## ")[0]
    assert {kind.__struct_config__.tag for kind in get_args(Event)} <= set(re.findall(r"`(\w+)`", section))
    assert f"format {FORMAT_VERSION}\n" in PAGE.splitlines(keepends=True)[0]
