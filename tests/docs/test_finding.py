"""docs/finding.md: its table is that of the committed runs, and its sentences follow from the table."""

import pytest

from tests.docs.conftest import ROOT, module_at

PAGE = (ROOT / "docs" / "finding.md").read_text()


@pytest.fixture(scope="module")
def study():
    return module_at(ROOT / "docs" / "finding_study.py")


def test_the_table_is_that_of_the_committed_runs(study):
    assert study.with_tables(PAGE) == PAGE, "run make study-table and commit"


@pytest.mark.parametrize(
    ("eps", "space", "sentence"),
    [
        (8, "pixel", "At 4/255 and 8/255 of pixels, RCI gains nothing"),
        (4, "pixel", "At 4/255 and 8/255 of pixels, RCI gains nothing"),
        (2, "pixel", "At 2/255 of pixels, RCI retains less than chance"),
        (8, "normalized", "the figures are nearly the same"),
        (1, "pixel", "At 1/255 of pixels, a gain is open"),
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
    elif "chance" in sentence:
        assert max(float(row["accuracy"]) for row in rows) < 0.1 and {row["verdict"] for row in rows} == {
            "broken"
        }
        assert min(float(row["gain"]) for row in rows) > 0.03
    elif "open" in sentence:
        assert {row["verdict"] for row in rows} == {"not settled"} and min(low) > 0.03
    else:
        assert {row["checkpoint"]: row["verdict"] for row in rows} == {
            "erm": "not settled",
            "coded": "broken",
        }
        assert max(float(row["accuracy"]) for row in rows) < 0.1 and min(low) > 0


@pytest.mark.parametrize(("network", "eps"), [("erm", "2-255"), ("coded", "2-255"), ("erm", "1-255")])
def test_noise_of_the_same_clean_accuracy_gains_as_much(study, network, eps):
    """Noise retains as much as RCI, within its interval, and the code in a fixed order gains nothing."""
    assert "RCI thus gains no more than input noise does" in PAGE
    rows = {row["defence"]: row for row in study.verdicts(f"rci/{network}-controls-{eps}")}
    (rci,) = (row for row in study.verdicts(f"rci/{network}-pixel-{eps}") if row["defence"] == "rci")
    noise, coded = rows["noise[sigma=0.02]"], rows["coded"]
    assert abs(float(noise["clean_accuracy"]) - float(rci["clean_accuracy"])) < 0.01
    assert float(noise["ci_low"]) < float(rci["accuracy"]) < float(noise["ci_high"])
    assert float(coded["gain"]) < 0 < float(noise["gain_low"])


def test_the_page_is_short():
    assert len(PAGE.split()) <= 1200
