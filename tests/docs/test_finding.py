"""docs/finding.md: its table is that of the committed runs, and its sentences follow from the table."""

import re

import pytest

from benchmarks.evidence import REPORTS, options_of, read
from tests.docs.conftest import ROOT, module_at

PAGE = (ROOT / "docs" / "finding.md").read_text()
TEXT = " ".join(PAGE.split())


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
    assert "At 4/255 and 8/255 of pixels, RCI gains less than 3 points" in TEXT
    for eps in (4, 8):
        found = at(rows, eps)
        assert highest(found, "accuracy") < 0.0255 and highest(found, "base_accuracy") == 0
        early = [found.pop(name) for name in ("erm", "mixup") if eps == 4]
        assert round(highest(found, "gain_high"), 3) <= 0.03
        assert {row["verdict"] for row in found.values()} == {"no gain"}
        assert all(row["verdict"] == "broken" for row in early)


@pytest.mark.parametrize(("at_", "opens", "most"), [((2,), None, 0.087), ((8, "normalized"), "coded", 0.078)])
def test_at_2_pixels_it_is_broken(rows, at_, opens, most):
    assert "At 2/255 of pixels, robust accuracy is at chance level" in TEXT
    assert "close to 2/255 of pixels**, and so are the figures" in TEXT
    found = at(rows, *at_)
    early = found.pop(opens, None)
    assert {row["verdict"] for row in found.values()} == {"broken"}
    assert round(highest(found, "accuracy"), 3) == most
    assert all(float(row["gain_low"]) < 0 < 0.03 < float(row["gain_high"]) for row in found.values())
    assert early is None or (early["verdict"], early["ci_low"], early["gain_low"]) == ("not settled", "", "")


@pytest.mark.parametrize("eps", [0.5, 1])
def test_at_1_pixel_and_below_a_gain_is_open(rows, eps):
    found = at(rows, eps)
    assert all(9.5 < 100 * float(row["gain"]) < 18.5 for row in found.values())
    assert all(float(row["gain_low"]) > 0.03 and row["verdict"] == "not settled" for row in found.values())


def test_networks_that_others_trained_agree_at_2_pixels(study):
    assert "Four ResNet-20s that others trained agree with ours at 2/255" in TEXT
    rows = [row for row in study.other_networks() if row["checkpoint"] in study.OTHERS]
    assert [row["checkpoint"] for row in rows] == list(study.OTHERS)
    assert {row["verdict"] for row in rows} == {"broken"}
    for column, (low, high) in (("accuracy", (0.081, 0.095)), ("gain", (0.073, 0.080))):  # as ours
        assert all(low <= round(float(row[column]), 3) <= high for row in rows)
    assert all(float(row["gain_low"]) < 0.03 < float(row["gain_high"]) for row in rows)


def test_the_papers_architecture_was_attacked_in_bfloat16():
    assert "PreActResNet-18, shows the same pattern" in TEXT and "are in bfloat16" in TEXT
    for run in (f"rci/erm-preact-resnet18-pixel-{eps}-255" for eps in (1, 2, 8)):
        (options,) = options_of(REPORTS, run)
        assert 'attack_precision = "bfloat16"' in options


@pytest.mark.parametrize("eps", ["1-255", "0.5-255"])
def test_below_2_pixels_a_known_order_leaves_no_gain(study, eps):
    assert "On ERM at 2/255, 1/255 and 0.5/255, we found no gain against an attacker who knows" in TEXT
    (row,) = (r for r in study.rows_of(f"rci/erm-pixel-{eps}") if study.is_subject(r, "batch/known"))
    assert float(row["gain"]) < 0 and row["gain_low"] == row["gain_high"] == ""


@pytest.mark.parametrize(("network", "eps"), [("erm", "2-255"), ("coded", "2-255"), ("erm", "1-255")])
def test_noise_of_about_the_same_clean_accuracy_gains_about_as_much(study, network, eps):
    """The intervals of RCI and noise overlap; the code in a fixed order gains nothing in the batches that its
    inputs were made in.
    """
    assert "Input noise gains about as much" in PAGE
    run = f"rci/{network}-pixel-{eps}"
    rows = {row["defence"]: row for row in study.rows_of(run) if row["threat"] == "batch/unknown"}
    rci, noise, coded = (rows[name] for name in ("rci", "noise[sigma=0.02]", "coded"))
    assert abs(float(noise["clean_accuracy"]) - float(rci["clean_accuracy"])) < 0.01
    assert float(rci["gain_low"]) < float(noise["gain"]) < float(rci["gain_high"])
    assert float(noise["gain_low"]) < float(rci["gain"]) < float(noise["gain_high"])
    (ensemble,) = of_attack(study, run, "coded", "ensemble")
    assert float(ensemble["own_accuracy"]) <= float(coded["base_accuracy"]) and float(noise["gain_low"]) > 0


def of_attack(study, run, defence, attack):
    return [
        row for row in study.rows_of(run, "summary") if (row["defence"], row["attack"]) == (defence, attack)
    ]


def test_against_victims_inputs_made_for_whole_batches_leave_least(study):
    assert "the strongest inputs are those optimised for the whole batch" in TEXT
    rows = of_attack(study, "rci/erm-attackers-2-255", "rci", "ensemble")
    victims = [row for row in rows if row["threat"] == "victim/unknown"]
    assert len(victims) == 2
    assert all(f"from:rci:N={row['n']}/pgd" in row["strongest_attack"] for row in victims)


def test_every_run_comes_from_a_commit_that_the_page_names():
    *now, before = re.findall(r"\b[0-9a-f]{8}\b", TEXT.partition("Runs come from")[2].partition("##")[0])
    rows = [row for row in read(REPORTS / "evidence.csv") if row["run"].startswith("rci/")]
    old = {row["run"].removeprefix("rci/").partition("-")[0] for row in rows if row["commit"][:8] == before}
    assert {row["commit"][:8] for row in rows} == {*now, before} and old == {"erm"}
