"""Figures of pages, each that of one row of a committed run: tied_numbers.csv has page, words and row."""

import csv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows(path):
    with path.open() as lines:
        return list(csv.DictReader(lines))


def figure(run, tied):
    """In percent, of the one row at a perturbation that the run gives verdicts for."""
    judged = {row["eps"] for row in rows(run / "verdicts.csv")}
    more = dict(pair.split("=") for pair in tied["more"].split())
    wanted = {"threat": "batch/unknown", "defence": tied["defence"], "attack": tied["attack"], **more}
    summary = [row for row in rows(run / "summary.csv") if row["eps"] in judged]
    (found,) = (row for row in summary if all(row[name] == value for name, value in wanted.items()))
    return f"{100 * float(found[tied['column']]):.1f}"


@pytest.mark.parametrize(
    "tied", rows(Path(__file__).with_name("tied_numbers.csv")), ids=lambda tied: tied["words"]
)
def test_a_figure_is_that_of_its_row(tied):
    text = " ".join((ROOT / "docs" / f"{tied['page']}.md").read_text().split())
    assert tied["words"].format(figure(ROOT / "reports" / tied["run"], tied)) in text
