"""docs/finding.md: its table is that of the committed runs, and its sentences follow from the table."""

import json
import re

import pytest

from tests.docs.conftest import ROOT, module_at

PAGE = (ROOT / "docs" / "finding.md").read_text()


@pytest.fixture(scope="module")
def study():
    return module_at(ROOT / "docs" / "finding_study.py")


def test_the_table_is_that_of_the_committed_runs(study):
    assert study.with_tables(PAGE) == PAGE, "run make study-table and commit"


def test_the_figures_are_those_of_the_committed_runs():
    """Texts and the number of marks; other versions of matplotlib place them otherwise."""
    for figure in module_at(ROOT / "docs" / "finding_figures.py").figures():
        committed = (ROOT / "docs" / f"{figure.name}.svg").read_text()
        for content in (r">([^<>]+)</text>", r"(<use )"):
            assert re.findall(content, figure.svg.decode()) == re.findall(content, committed), figure.name
        assert f"({figure.name}.svg)" in PAGE


@pytest.fixture
def rows(study):
    """Rows of RCI by eps in 255ths, space and network."""
    return {
        (round(255 * float(row["eps"]), 1), row["eps_space"], row["checkpoint"]): row for row in study.gains()
    }


def at(rows, eps, space="pixel"):
    found = {key[2]: row for key, row in rows.items() if key[:2] == (eps, space)}
    assert set(found) == {"erm", "coded", "mixup"}
    return found


def highest(found, column):
    return max(float(row[column]) for row in found.values())


def test_at_4_and_8_pixels_it_gains_less_than_the_margin(rows):
    assert "At 4/255 and 8/255 of pixels, RCI gains less than 3 points" in PAGE
    for eps in (4, 8):
        found = at(rows, eps)
        assert highest(found, "accuracy") < 0.01 and highest(found, "base_accuracy") == 0
        early = found.pop("mixup") if eps == 4 else None
        assert highest(found, "gain_high") < 0.03 and {r["verdict"] for r in found.values()} == {"no gain"}
        assert early is None or early["verdict"] == "broken"


@pytest.mark.parametrize(("eps", "space"), [(2, "pixel"), (8, "normalized")])
def test_at_2_pixels_it_is_broken(rows, eps, space):
    assert "At 2/255 of pixels, RCI retains 6.9 to 8.4%" in PAGE
    assert "the figures are nearly the same" in PAGE
    found = at(rows, eps, space)
    assert 0.05 < highest(found, "accuracy") < 0.1
    assert {row["verdict"] for row in found.values()} == {"broken"}


@pytest.mark.parametrize("eps", [0.5, 1])
def test_at_1_pixel_and_below_a_gain_is_open(rows, eps):
    assert "RCI gains about 15 points at 1/255 of pixels, and 8 to 9 at 0.5/255" in PAGE
    found = at(rows, eps)
    assert {row["verdict"] for row in found.values()} == {"not settled"}
    assert min(float(row["gain_low"]) for row in found.values()) > 0.03


def test_networks_that_others_trained_agree_at_2_pixels(study):
    assert "RCI retains 7.7 to 9.5% and gains 6.8 to 7.6 points. All verdicts are\n`broken`" in PAGE
    assert "three of the four gains are above 3 points" in PAGE
    rows = [row for row in study.other_networks() if row["checkpoint"] in study.OTHERS]
    assert [row["checkpoint"] for row in rows] == list(study.OTHERS)
    assert {row["verdict"] for row in rows} == {"broken"}
    for column, ends in (("accuracy", (0.077, 0.095)), ("gain", (0.068, 0.076))):
        values = [round(float(row[column]), 3) for row in rows]
        assert (min(values), max(values)) == ends
    assert sum(float(row["gain_low"]) > 0.03 for row in rows) == 3


def test_the_papers_architecture_shows_the_same_pattern(study):
    assert "RCI gains 14.7 points at 1/255, 7.7 at 2/255 and 0.0 at 8/255. At 2/255 it retains 11.1%" in PAGE
    rows = {study.budget(row): row for row in study.other_networks() if row["checkpoint"] == study.PREACT}
    assert {eps: study.percent(row["gain"]) for eps, row in rows.items()} == {
        "1/255": "14.7",
        "2/255": "7.7",
        "8/255": "0.0",
    }
    assert [row["verdict"] for row in rows.values()] == ["not settled", "not settled", "no gain"]
    assert study.percent(rows["2/255"]["accuracy"]) == "11.1"
    for run in (f"erm-preact-resnet18-pixel-{eps}-255" for eps in (1, 2, 8)):
        assert 'attack_precision = "bfloat16"' in (ROOT / "reports" / "rci" / run / "run.toml").read_text()


def test_at_2_pixels_the_answer_holds_for_every_network(study, rows):
    assert "At 2/255, it gains 5 to 8 points, but\nretains only 7 to 11%" in PAGE
    found = [*at(rows, 2).values(), *(row for row in study.other_networks() if study.budget(row) == "2/255")]
    assert len(found) == 8 and "for eight networks" in PAGE
    for column, ends in (("gain", (5, 8)), ("accuracy", (7, 11))):
        values = [round(100 * float(row[column])) for row in found]
        assert (min(values), max(values)) == ends


@pytest.mark.parametrize(
    ("eps", "single", "averaged", "known", "base"),
    [("1-255", 33.8, 33.5, 12.9, 17.2), ("0.5-255", 63.8, 63.6, 45.1, 55.1)],
)
def test_below_2_pixels_a_known_order_leaves_no_gain(study, eps, single, averaged, known, base):
    assert "At 1/255 and 0.5/255, we found no gain against an attacker who knows the order" in PAGE
    run = f"rci/erm-further-{eps}"
    left = {
        row["attack"]: row["accuracy"] for row in study.rows_of(run, "summary") if row["defence"] == "rci"
    }
    last = study.ATTACKS[-1]
    found = [left[attack] for attack in (last, f"eot8-{last}", f"aware-{last}")]
    (row,) = (row for row in study.rows_of(run) if study.is_subject(row, "batch/known"))
    assert [study.percent(value) for value in (*found, row["base_accuracy"])] == [
        f"{value}" for value in (single, averaged, known, base)
    ]
    assert float(row["gain"]) < 0 < float(row["gain_high"])
    assert all(f"{value}%" in PAGE for value in (single, averaged, known, base))


@pytest.mark.parametrize(("network", "eps"), [("erm", "2-255"), ("coded", "2-255"), ("erm", "1-255")])
def test_noise_of_about_the_same_clean_accuracy_gains_about_as_much(study, network, eps):
    """Noise retains as much as RCI, within its interval, and the code in a fixed order gains nothing."""
    assert "Input noise gains about as much" in PAGE
    rows = {row["defence"]: row for row in study.rows_of(f"rci/{network}-controls-{eps}")}
    (rci,) = (row for row in study.rows_of(f"rci/{network}-pixel-{eps}") if row["defence"] == "rci")
    noise, coded = rows["noise[sigma=0.02]"], rows["coded"]
    assert abs(float(noise["clean_accuracy"]) - float(rci["clean_accuracy"])) < 0.01
    assert float(noise["ci_low"]) < float(rci["accuracy"]) < float(noise["ci_high"])
    assert float(coded["gain"]) < 0 < float(noise["gain_low"])


def test_the_page_is_short():
    text = [line for line in PAGE.splitlines() if not line.startswith(("|", "<!--"))]
    assert len(" ".join(text).split()) <= 1500


def test_every_run_comes_from_the_commit_that_the_page_names():
    (named,) = re.findall(r"Every run comes from commit (\w{8})\.", PAGE)
    runs = [*(ROOT / "reports" / "rci").iterdir(), ROOT / "reports" / "cifar10-adversarial"]
    for run in runs:
        for command in json.loads((run / "run.json").read_text())["invocations"]:
            assert (command["git"]["commit"][:8], command["git"]["dirty"]) == (named, False), run.name
