"""``csrobust plan``: what runs is said before it runs. Forecasts are planted."""

import json

import pandas as pd
import pytest

from robustbench_coded.evaluation.session.planning import Rates

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--batch-size", "8", "--draws", "2", "--selection-draws", "2", "--threads", "1")
ATTACKS = ("--rci", "N=12", "--attacks", "fgsm,pgd-40,transfer-pgd-2")


@pytest.fixture
def a_second_an_image(monkeypatch):
    """Forecasts of that much, whatever the machine does."""
    monkeypatch.setattr(Rates, "of", lambda self, case: 1.0)


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
    assert all(row["certain"] and row["examples"] == 40 for row in plan["rows"])
    for what in ("images", "seconds", "units"):
        assert plan[what] == pytest.approx(sum(row[what] for row in plan["rows"]))
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


@pytest.mark.parametrize(
    ("options", "certain", "most"),
    [
        ((), 16, None),  # of images that small, all rows are affordable
        (("--time", "2h"), 13, 3 * 1200),  # half of it in equal parts for standard, RCI and its victims
        (("--until", "settled"), 2, None),
    ],
)
def test_the_sum_is_over_the_rows_that_run_in_any_case(
    csrobust, digits_erm, a_second_an_image, options, certain, most
):
    command = ("plan", "--ckpt", digits_erm, *SMALL, "--rci", "N=12", *options)
    plan = json.loads(csrobust(*command, "--json").out)
    runs = [row for row in plan["rows"] if row["certain"]]
    assert len(runs) == certain < len(plan["rows"])
    assert plan["seconds"] == pytest.approx(sum(row["seconds"] for row in runs))
    others = sum(row["images"] for row in plan["rows"] if not row["certain"])
    assert plan["open_images"] == (others if most is None else min(others, most))
    lines = csrobust(*command).out.splitlines()
    assert any(line.startswith("run folder: reports/digits-erm-") for line in lines)
    table = [line for line in lines if " digits-erm | " in line]
    assert [not line.partition("* digits-erm")[1] for line in table] == [r["certain"] for r in plan["rows"]]
    (marked,) = [line for line in lines if line.startswith("cases marked *")]
    assert f"up to {plan['open_images']:,} gradients more" in marked


def test_a_wish_for_time_gets_the_examples_that_fit(csrobust, digits_erm, a_second_an_image):
    def examples(*options):
        answer = csrobust("plan", "--ckpt", digits_erm, *SMALL, *ATTACKS, *options, "--json")
        plan = json.loads(answer.out)
        rows = [row for row in plan["rows"] if row["certain"]]
        return {(r["defence"], r["attack"]): r["examples"] for r in rows}, plan["seconds"]

    some, seconds = examples("--time", "2h")  # half of it is for the table
    assert seconds <= 3600 and some.get(("rci", "pgd-40"), 0) < some["rci", "transfer-pgd-2"] < 640
    every, seconds = examples("--all")
    assert set(every.values()) == {640} and seconds > 7200


def test_what_was_left_out_is_what_a_plan_of_all_still_has_to_do(
    csrobust, digits_erm, tmp_path, a_second_an_image
):
    options = ("--ckpt", digits_erm, *SMALL, *ATTACKS, "--out", tmp_path / "run")
    whole = json.loads(csrobust("plan", *options, "--all", "--json").out)
    assert csrobust("eval", *options, "--time", "2h", "--quiet").code == 0
    spent = json.loads(csrobust("plan", *options, "--time", "2h", "--json").out)
    assert spent["seconds"] == 0 and spent["done"] == spent["units"] > 0
    rest = json.loads(csrobust("plan", *options, "--all", "--json").out)
    assert 0 < rest["seconds"] < whole["seconds"]
    planned = {(r["defence"], r["attack"]): r["examples"] for r in spent["rows"] if r["certain"]}
    assert planned == {(r["defence"], r["attack"]): r["examples"] for r in measured(tmp_path / "run")}
