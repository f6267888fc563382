"""``--query-budget N``: every attack, third-party ones too, stops at the same cost."""

import json
import re

import pandas as pd
import pytest

from attacks.adapters.third_party import installed

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--limit", "24", "--batch-size", "16", "--threads", "1", "--draws", "2")
SMALL += ("--quiet",)
OURS = "pgd-10,eot4-pgd-10,apgd-ce-20,square-100,spsa-200,transfer-pgd-20,aware-pgd-10+init=transfer-pgd-20"
THIRD_PARTY = "torchattacks:PGD+steps=40,autoattack:apgd-ce"
BUDGET = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_erm):
    from robustbench_coded.cli.main import main

    both = installed("torchattacks") and installed("autoattack")
    out = tmp_path_factory.mktemp("budget") / "run"
    options = (
        "--rci",
        "N=1.5K",
        "--inputs",
        "batch,victim",
        "--query-budget",
        str(BUDGET),
        "--out",
        str(out),
    )
    attacks = f"{OURS},{THIRD_PARTY}" if both else OURS
    code = main(["eval", "--ckpt", f"erm={digits_erm}", *SMALL, "--attacks", attacks, *options])
    assert code == 0
    return out


def test_no_attack_costs_more_and_those_that_would_come_close(run):
    table = pd.read_csv(run / "summary.csv").query("attack not in ['strongest', 'ensemble']")
    table = table.set_index(["defence", "threat", "attack"]).sort_index()
    cost = table.forwards_per_example + table.backwards_per_example
    attacks = 1 + table.index.get_level_values("threat").str.endswith("/known")  # two separate ones
    assert (table.status == "done").all() and (cost <= BUDGET * attacks).all()
    whole = cost["rci", "batch/unknown"]
    for name in ("pgd-10", "apgd-ce-20", "spsa-200", "transfer-pgd-20"):
        assert whole[name] > 0.9 * BUDGET, name
    # One move of it costs 12 forwards and more: the next one would have passed the limit.
    assert whole["square-100"] > BUDGET - 2 * 5 * 1.8
    if installed("torchattacks") and installed("autoattack"):
        assert (whole[THIRD_PARTY.split(",")] > 0.9 * BUDGET).all()


def test_an_attack_whose_first_move_is_too_dear_is_left_out_and_named(run):
    table = pd.read_csv(run / "summary.csv")
    rci = table[(table.defence == "rci") & (table.threat == "victim/unknown")]
    assert set(rci.attack) - {"strongest", "ensemble"} == {"clean", "transfer-pgd-20"}
    report = (run / "report.md").read_text()
    dropped = report[report.index("## What did not run") :]
    assert re.search(r"pgd-10.* on rci \(victim/unknown\): left out; one move costs \d+ images", dropped)


def test_another_budget_is_another_unit_and_replaces_the_row(run, csrobust, digits_erm, tmp_path):
    def evaluate(budget):
        options = ("--attacks", "pgd-10", "--no-standard", "--rci", "N=1.5K", "--out", tmp_path / "run")
        assert csrobust("eval", "--ckpt", f"erm={digits_erm}", *SMALL, *budget, *options).code == 0
        rows = json.loads((tmp_path / "run" / "run.json").read_text())["cases"]
        row = next(row for row in rows if row["case"]["attack"] == "pgd-10")
        table = pd.read_csv(tmp_path / "run" / "summary.csv").set_index("attack")
        nulls = [unit for row in rows if row["case"]["attack"] == "clean" for unit in row["units"]]
        return row, table.forwards_per_example["pgd-10"], nulls

    limited, few, clean = evaluate(("--query-budget", "20"))
    free, many, clean_again = evaluate(())
    assert (limited["query_budget"], free["query_budget"]) == (20, None)
    assert (limited["stopped"], free["stopped"]) == (True, False)
    assert few < many and set(limited["units"]).isdisjoint(free["units"])
    assert clean == clean_again, "what is not attacked does not know a budget"
