"""``csrobust ablate``: one study after the other into one folder."""

import json

import pytest

pytestmark = pytest.mark.long

FAST = ("--arch", "digits-cnn", "--data", "digits", "--epochs", "1", "--seeds", "1", "--limit", "128")


def test_a_study_is_trained_measured_and_written(csrobust, tmp_path):
    out = tmp_path / "ab"
    options = ("--values", "erm,coded", "--draws", "1", "--eps", "0.1", "--out", out)
    answer = csrobust("ablate", "recipe", *FAST, *options, "--json")
    assert answer.code == 0, answer.err
    results = json.loads(answer.out)["recipe"]
    assert {r["point"] for r in results} == {"erm", "coded"} and all(r["seeds"] == 1 for r in results)
    assert {r["attack"] for r in results} == {"clean", "pgd-10", "transfer-pgd-20"}
    shown = csrobust("ablate", "recipe", *FAST, *options)
    assert "report: " in shown.out and "loss" in shown.out and not shown.err
    assert {p.name for p in out.iterdir()} >= {"report.md", "recipe.csv", "measurements.csv", "figures"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["gamma", *FAST], ["gamma", "choose from"]),
        (["n", "mu", "--values", "110", *FAST], ["--values belongs to one study"]),
        (["n", "--values", "3", *FAST], ["--values 3"]),
        (["mu", "--arch", "digits-cnm", "--data", "digits", "--out", "x"], ["digits-cnm"]),
    ],
)
def test_wrong_input(csrobust, options, words):
    answer = csrobust("ablate", *options)
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert len(answer.err.strip().splitlines()) == 1
