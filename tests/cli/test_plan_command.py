"""``csrobust plan``: what runs is said before it runs."""

import json

import pytest

from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION
from tests.run_folders import steps

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--batch-size", "8", "--draws", "2", "--threads", "1")
ATTACKS = ("--rci", "N=12", "--attacks", "fgsm,pgd-40,transfer-pgd-2")


def gradients(run):
    """By rung, what its steps cost."""
    costs = {}
    for step in steps(run):
        costs[step["rung"]] = costs.get(step["rung"], 0) + sum(step["costs"])
    return costs


def test_a_plan_of_a_break_is_what_eval_runs_and_nothing_is_written(csrobust, digits_erm, tmp_path):
    options = ("--ckpt", digits_erm, *SMALL, *ATTACKS, "--limit", "40", "--out", tmp_path / "run")
    answer = csrobust("plan", *options, "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert list(tmp_path.iterdir()) == [] and plan["protocol"] == VERSION
    for way in ("least", "most"):
        assert plan[way] == sum(row[way] for row in plan["rungs"])
    assert csrobust("eval", *options, "--quiet").code == 0
    spent, planned = gradients(tmp_path / "run"), {row["rung"]: row["least"] for row in plan["rungs"]}
    assert spent["named rows"] == planned["named rows"] > 0
    assert spent["clean"] == planned["clean"] and plan["least"] <= plan["most"]
    again = json.loads(csrobust("plan", *options, "--json").out)
    assert again["least"] <= 0.5 * plan["least"]
    anew = json.loads(csrobust("plan", *options, "--json", "--overwrite").out)
    assert anew["least"] == plan["least"]


def test_a_plan_lists_rungs_and_what_verdicts_cost(csrobust, digits_erm):
    command = ("plan", "--ckpt", digits_erm, *SMALL, "--rci", "N=12")
    lines = csrobust(*command).out.splitlines()
    named = [rung.name for rung in RUNGS]
    assert [line for line in lines if line.startswith(tuple(named))] == lines[1 : 1 + len(named)]
    assert sum("if every subject falls" in line or "if none falls; random" in line for line in lines) == 2
    assert any(line.startswith("run folder: runs/digits-erm-") for line in lines)


@pytest.mark.parametrize(
    ("options", "without"),
    [((), ()), (("--time", "2h"), ()), (("--until", "settled"), ("named rows",))],
)
def test_time_changes_no_step_and_until_leaves_out_rows(csrobust, digits_erm, options, without):
    command = ("plan", "--ckpt", digits_erm, *SMALL, "--rci", "N=12")
    plan, plain = (json.loads(csrobust(*command, *more, "--json").out) for more in (options, ()))
    assert (plan["rungs"] == plain["rungs"]) == (not without)
    assert all(row["least"] == 0 for row in plan["rungs"] if row["rung"] in without)


def test_a_plan_beside_another_evaluation_says_that_it_needs_a_folder_of_its_own(
    csrobust, digits_erm, tmp_path
):
    run = tmp_path / "run"
    options = ("--ckpt", digits_erm, "--attacks", "fgsm", "--limit", "16", "--threads", "1", "--out", run)
    assert csrobust("eval", *options, "--data", "digits", "--quiet").code == 0
    before = (run / "run.json").read_bytes()
    answer = csrobust("plan", run / "run.toml", "--seed", "1")
    assert answer.code == 0 and "this one needs a folder of its own, --out NEW" in answer.err
    assert (run / "run.json").read_bytes() == before
    assert csrobust("eval", run / "run.toml", "--seed", "1").code == 2
