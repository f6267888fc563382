"""``csrobust plan`` and ``eval --time``: what runs is said before it runs. Forecasts are planted."""

import json

import pandas as pd
import pytest

from robustbench_coded.reports import write
from robustbench_coded.session import unit_seconds

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--batch-size", "8", "--draws", "2", "--selection-draws", "2", "--threads", "1")
ATTACKS = ("--rci", "N=12", "--attacks", "fgsm,pgd-40,transfer-pgd-2")


@pytest.fixture
def a_second_an_image(monkeypatch):
    """Forecasts of that much, whatever the machine does; no figures, which take longer than all the rest."""
    monkeypatch.setattr(write, "figures_of", lambda run: [])
    monkeypatch.setattr(unit_seconds, "seconds_per_image", lambda prepared, subject, **_: 1.0)
    monkeypatch.setattr(unit_seconds, "seconds_per_answer", lambda prepared, subject, **_: 1 / 3)


def rows(table):
    return {(r["defence"], r["threat"], r["attack"]) for r in table}


def measured(run):
    table = pd.read_csv(run / "summary.csv")
    table = table[~table.attack.isin(["strongest", "ensemble", "naive-min"])]
    table = table[~table.attack.str.startswith("from:")]  # what these found, submitted: known only then
    return table.to_dict("records")


def test_a_plan_is_what_eval_runs_and_nothing_is_written(csrobust, digits_erm, tmp_path, a_second_an_image):
    options = ("--ckpt", digits_erm, *SMALL, *ATTACKS, "--limit", "40", "--out", tmp_path / "run")
    answer = csrobust("plan", *options, "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert list(tmp_path.iterdir()) == []
    assert plan["images"] == sum(row["images"] for row in plan["rows"])
    # Forwards of what these find come on top.
    assert plan["seconds"] > sum(row["seconds"] for row in plan["rows"]) > 0.5 * plan["seconds"]
    # Attacks on standard inference stop early; the others cost all that they say.
    shorter = {(r["defence"], r["attack"]) for r in plan["rows"] if r["seconds"] < r["images"]}
    assert shorter == {("standard", "pgd-40")}
    costs = {(r["defence"], r["attack"]): r["images"] for r in plan["rows"]}
    # 40 gradients of 40 examples, and the forward that scores them.
    assert costs["standard", "pgd-40"] == pytest.approx(40 * 40 + 40 / 3, abs=5)
    assert csrobust("eval", *options, "--quiet").code == 0
    assert rows(measured(tmp_path / "run")) == rows(plan["rows"])
    again = json.loads(csrobust("plan", *options, "--json").out)
    assert again["seconds"] == 0 and again["done"] == plan["units"]
    assert all(row["done"] == row["units"] for row in again["rows"])
    anew = json.loads(csrobust("plan", *options, "--json", "--overwrite").out)
    assert anew["seconds"] == plan["seconds"]


def test_a_plan_for_people_names_rows_and_the_folder(csrobust, digits_erm, tmp_path, a_second_an_image):
    answer = csrobust("plan", "--ckpt", digits_erm, *SMALL, *ATTACKS, "--limit", "40")
    assert answer.code == 0
    assert "digits-erm | rci K=8, N=12 | batch/unknown | transfer-pgd-2 | eps 0.3\n" in answer.out
    assert "run folder: reports/digits-erm-" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_is_kept_said_and_made_up_for(csrobust, digits_erm, tmp_path, a_second_an_image):
    run = tmp_path / "run"
    options = ("--ckpt", digits_erm, *SMALL, *ATTACKS, "--limit", "200", "--out", run)
    limited = (*options, "--time", "25m")
    plan = json.loads(csrobust("plan", *limited, "--json").out)
    assert plan["seconds"] <= 1500
    assert any("pgd-40 follow on subjects whose verdict is open" in note for note in plan["notes"])
    answer = csrobust("eval", *limited)
    assert answer.code == 0, answer.err
    table = measured(run)
    assert rows(table) == rows(plan["rows"])
    assert ("rci", "batch/unknown", "transfer-pgd-2") in rows(table)
    assert ("rci", "batch/unknown", "pgd-40") not in rows(table)
    (examples,) = {row["examples"] for row in table}
    assert examples == 32
    said = (
        f"To keep within 25m, only {examples} of 200 examples were evaluated.",
        "To keep within 25m, pgd-40 (batch/unknown) was left out on",
    )
    manifest = json.loads((run / "run.json").read_text())
    for text in said:
        assert text in " ".join(answer.err.split())
        assert any(text in note for note in manifest["notes"])
        assert text in (run / "report.md").read_text()
    assert manifest["invocations"][-1]["options"]["time"] == 1500
    # More time later goes into what was left out, on the examples that the folder has.
    assert csrobust("eval", *options, "--time", "9h", "--quiet").code == 0
    assert rows(measured(run)) - rows(table) == {("rci", "batch/unknown", "pgd-40")}
    assert {row["examples"] for row in measured(run)} == {examples}
    # A smaller number of examples than the folder's is refused, as without a time limit.
    answer = csrobust("plan", *options, "--limit", "16", "--time", "9h")
    assert answer.code == 2 and f"--limit {examples}, not 16" in answer.err
    notes = json.loads((run / "run.json").read_text())["notes"]
    assert any(said[0].replace("25m", "9h") in note for note in notes)
    assert not any("pgd-40" in note or "25m" in note for note in notes)
