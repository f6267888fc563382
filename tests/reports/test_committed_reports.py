"""The committed reports are what today's code makes of their outcomes (`make rewrite` after a change)."""

import re
import shutil
from pathlib import Path

import pytest

from robustbench_coded.reports import write

DIGITS = Path(__file__).parents[2] / "reports" / "digits"
MENDING = "reports/digits is not what this code writes; make rewrite, and commit what it changes"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A copy of the committed run, its reports written again without figures, which take longest."""
    copy = tmp_path_factory.mktemp("committed") / DIGITS.name
    shutil.copytree(DIGITS, copy, ignore=shutil.ignore_patterns("report.*", "*.csv", "figures", ".lock"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda run: [])
        write.write_reports(copy)
    return copy


@pytest.mark.parametrize("name", ["summary.csv", "timings.csv", "report.md"])
def test_tables_are_equal_byte_for_byte(written, name):
    assert (written / name).read_bytes() == (DIGITS / name).read_bytes(), MENDING


def test_the_page_is_equal_but_for_its_figures(written):
    pages = [(folder / "report.html").read_text() for folder in (written, DIGITS)]
    ours, theirs = (re.sub(r'<section id="figures">.*?</section>\n', "", page, flags=re.S) for page in pages)
    assert len(theirs) < len(pages[1])
    assert ours.split("\n") == theirs.split("\n"), MENDING


def test_every_figure_is_there_as_svg_and_png():
    stems = {path.stem for path in (DIGITS / "figures").iterdir()}
    assert stems >= {"ladder", "clean-against-attacked", "correct-draws", "cost", "decomposition"}
    for stem in stems:
        assert (DIGITS / "figures" / f"{stem}.svg").is_file()
        assert (DIGITS / "figures" / f"{stem}.png").is_file()
