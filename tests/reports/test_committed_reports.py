"""The committed reports are what today's code makes of their outcomes (`make rewrite` after a change)."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from robustbench_coded.cli.main import main
from robustbench_coded.reports.write import write_reports

pytestmark = pytest.mark.long

DIGITS = Path(__file__).parents[2] / "reports" / "digits"
MENDING = "reports/digits is not what this code writes; make rewrite, and commit what it changes"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A copy of the committed run with its reports written again."""
    copy = tmp_path_factory.mktemp("committed") / DIGITS.name
    ours = shutil.ignore_patterns("report.*", "*.csv", ".lock")
    shutil.copytree(DIGITS, copy, ignore=ours)
    write_reports(copy)
    return copy


@pytest.mark.parametrize("name", ["summary.csv", "verdicts.csv", "report.md"])
def test_tables_are_equal_byte_for_byte(written, name):
    assert (written / name).read_bytes() == (DIGITS / name).read_bytes(), MENDING


def test_the_page_is_equal_but_for_its_figures(written):
    pages = [(folder / "report.html").read_text() for folder in (written, DIGITS)]
    # Pictures of figures are not compared: other versions of the libraries that draw them round otherwise.
    ours, theirs = (re.sub(r"data:image/svg[^\"]*", "", page) for page in pages)
    assert len(theirs) < len(pages[1])
    assert ours.split("\n") == theirs.split("\n"), MENDING


def test_the_picture_in_the_readme_is_of_this_report(written):
    with Image.open(DIGITS.parents[1] / "docs" / "report-light.png") as picture:
        shown = picture.text["Description"]
    first_screen = (written / "report.md").read_text().partition("\n## ")[0]
    assert shown == first_screen, "docs/report-light.png is of an older report; make screenshots, and commit"


@pytest.mark.parametrize(
    ("page", "run"), [("digits-trainings", "digits"), ("cifar10-trainings", "cifar10-recipes")]
)
def test_comparisons_of_trainings_are_of_their_runs(tmp_path, page, run):
    reports, written = DIGITS.parent, str(tmp_path)
    assert (
        main(["compare", str(reports / run), "--baseline", "erm", "--format", "csv", "--out", written]) == 0
    )
    ours, theirs = (folder / "comparison.csv" for folder in (tmp_path, reports / page))
    assert ours.read_bytes() == theirs.read_bytes(), MENDING
