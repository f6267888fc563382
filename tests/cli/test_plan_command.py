"""``csrobust plan``: what runs is said before it runs. Forecasts are planted."""

import json

import pytest

from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION
from robustbench_coded.evaluation.session.rates import Rates
from tests.run_folders import lines

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--batch-size", "8", "--draws", "2", "--threads", "1")
ATTACKS = ("--rci", "N=12", "--attacks", "fgsm,pgd-40,transfer-pgd-2")


@pytest.fixture
def a_second_an_image(monkeypatch):
    """Forecasts of that much, whatever the machine does."""
    monkeypatch.setattr(Rates, "of", lambda self, case: 1.0)


def steps(run):
    found = [line["decision"]["step"] for line in lines(run, "step")]
    return [step for step in found if step is not None]


def gradients(run):
    """By rung, what its steps cost."""
    costs = {}
    for step in steps(run):
        cost = sum(part["images"] for part in (*step["cases"], *step["random"]))
        costs[step["rung"]] = costs.get(step["rung"], 0) + cost
    return costs


def test_a_plan_of_a_break_is_what_eval_runs_and_nothing_is_written(
    csrobust, digits_erm, tmp_path, a_second_an_image
):
    options = ("--ckpt", digits_erm, *SMALL, *ATTACKS, "--limit", "40", "--out", tmp_path / "run")
    answer = csrobust("plan", *options, "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert list(tmp_path.iterdir()) == [] and plan["protocol"] == VERSION
    for way in ("negative", "positive"):
        for what in ("images", "seconds"):
            assert plan[way][what] == pytest.approx(sum(row[way][what] for row in plan["rungs"]))
    assert plan["negative"]["images"] == plan["negative"]["seconds"] < plan["positive"]["images"]
    assert csrobust("eval", *options, "--quiet").code == 0
    spent, planned = gradients(tmp_path / "run"), {r["rung"]: r["negative"]["images"] for r in plan["rungs"]}
    assert spent["named rows"] == planned["named rows"] > 0
    assert sum(spent.values()) == pytest.approx(sum(planned.values()), rel=0.25)
    again = json.loads(csrobust("plan", *options, "--json").out)
    assert again["negative"]["images"] <= 0.25 * plan["negative"]["images"]
    anew = json.loads(csrobust("plan", *options, "--json", "--overwrite").out)
    assert anew["negative"] == plan["negative"]


def test_a_plan_lists_rungs_and_what_verdicts_cost(csrobust, digits_erm, a_second_an_image):
    command = ("plan", "--ckpt", digits_erm, *SMALL, "--rci", "N=12")
    lines = csrobust(*command).out.splitlines()
    named = [rung.name for rung in RUNGS]
    assert [line for line in lines if line.startswith(tuple(named))] == lines[1 : 1 + len(named)]
    assert [line.split(" costs ")[0] for line in lines if " costs " in line] == [
        "a negative verdict",
        "a positive verdict",
    ]
    assert any(line.startswith("run folder: reports/digits-erm-") for line in lines)


@pytest.mark.parametrize(
    ("options", "without"),
    [((), ()), (("--time", "2h"), ()), (("--until", "settled"), ("named rows",))],
)
def test_time_changes_no_step_and_until_leaves_out_rows(
    csrobust, digits_erm, a_second_an_image, options, without
):
    command = ("plan", "--ckpt", digits_erm, *SMALL, "--rci", "N=12")
    plan, plain = (json.loads(csrobust(*command, *more, "--json").out) for more in (options, ()))
    assert (plan["rungs"] == plain["rungs"]) == (not without)
    assert all(row["negative"]["images"] == 0 for row in plan["rungs"] if row["rung"] in without)


def test_a_plan_beside_another_evaluation_says_that_it_needs_a_folder_of_its_own(
    csrobust, digits_erm, tmp_path, a_second_an_image
):
    run = tmp_path / "run"
    options = ("--ckpt", digits_erm, "--attacks", "fgsm", "--limit", "16", "--threads", "1", "--out", run)
    assert csrobust("eval", *options, "--data", "digits", "--quiet").code == 0
    before = (run / "run.json").read_bytes()
    answer = csrobust("plan", run / "run.toml", "--seed", "1")
    assert answer.code == 0 and "this one needs a folder of its own, --out NEW" in answer.err
    assert (run / "run.json").read_bytes() == before
    assert csrobust("eval", run / "run.toml", "--seed", "1").code == 2
