"""docs/finding.md: its table is that of the committed runs, and its sentences follow from the table."""

import pytest

from tests.docs.conftest import ROOT, module_at

PAGE = (ROOT / "docs" / "finding.md").read_text()


@pytest.fixture(scope="module")
def study():
    return module_at(ROOT / "docs" / "finding_study.py")


def test_the_table_is_that_of_the_committed_runs(study):
    assert study.with_table(PAGE) == PAGE, "run make study-table and commit"


@pytest.mark.parametrize(
    ("eps", "space", "sentence"),
    [
        (8, "pixel", "At 8/255 of pixels, RCI gains nothing"),
        (2, "pixel", "At 2/255 of pixels, it is open"),
        (8, "normalized", "the attacks that ran leave a gain"),
    ],
)
def test_each_sentence_follows_from_its_rows(study, eps, space, sentence):
    rows = [
        row for row in study.gains() if (round(255 * float(row["eps"])), row["eps_space"]) == (eps, space)
    ]
    assert rows and sentence in PAGE
    low, high = ([float(row[name]) for row in rows] for name in ("gain_low", "gain_high"))
    if "nothing" in sentence:
        assert max(high) < 0.03 and {row["verdict"] for row in rows} == {"no gain"}
    elif "open" in sentence:
        assert max(low) < 0.03 < min(high) and {row["verdict"] for row in rows} == {"not settled"}
    else:
        assert min(float(row["gain"]) for row in rows) > 0.03 and {row["verdict"] for row in rows} == {
            "not settled"
        }


def test_the_page_is_short():
    assert len(PAGE.split()) <= 900
