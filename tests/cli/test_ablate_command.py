"""``csrobust paper ablate``: one study after the other into one folder."""

import json

import pytest

from robustbench_coded.paper.training.config import RECIPES

pytestmark = pytest.mark.long

FAST = ("-o", "arch=digits-cnn", "-o", "data=digits", "-o", "epochs=1", "--seeds", "1", "--limit", "128")


def test_a_study_is_trained_measured_and_written(csrobust, tmp_path):
    out = tmp_path / "ab"
    options = ("--draws", "1", "--eps", "0.1", "--out", out)
    answer = csrobust("paper", "ablate", "recipe", *FAST, *options, "--json")
    assert answer.code == 0, answer.err
    results = json.loads(answer.out)["recipe"]
    assert {r["point"] for r in results} == {*RECIPES} and all(r["seeds"] == 1 for r in results)
    assert {r["attack"] for r in results} == {"clean", "pgd-10", "transfer-pgd-20"}
    shown = csrobust("paper", "ablate", "recipe", *FAST, *options)
    assert "report: " in shown.out and "loss" in shown.out and not shown.err
    assert {p.name for p in out.iterdir()} >= {"report.md", "recipe.csv", "measurements.csv", "figures"}
