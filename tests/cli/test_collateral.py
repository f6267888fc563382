"""``--inputs collateral``: what a few malicious inputs do to those that nobody touches."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import outcomes

pytestmark = pytest.mark.long

K = 8
# N = K, where mixing is strongest.
ATTACKS = "pgd-2,transfer-pgd-5,aware-pgd-10"
SMALL = ("--data", "digits", "--limit", "24", "--batch-size", K, "--threads", "1", "--draws", "2", "--quiet")


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_erm):
    from robustbench_coded.cli.main import main

    out = tmp_path_factory.mktemp("collateral") / "run"
    options = ["--attacks", ATTACKS, "--rci", f"N={K}", "--inputs", "batch,collateral"]
    more = ["--save-adversarials", "--out", str(out)]
    arguments = ["eval", "--ckpt", f"erm={digits_erm}", *SMALL, *options, *more]
    assert main([str(argument) for argument in arguments]) == 0
    return out


def test_rows_and_what_is_scored_in_them(run):
    table = pd.read_csv(run / "summary.csv")
    mine = table[table.threat.str.startswith("collateral") & (table.attack == "aware-pgd-10")]
    mine = mine.set_index("threat")
    names = [f"collateral-{m}{where}/known" for where in ("", "-box") for m in (1, 2, 4)]
    assert set(mine.index) == set(names) and (mine.status == "done").all()
    assert [mine.examples[name] for name in names] == [21, 18, 12] * 2
    assert (mine.examples == mine.examples_planned).all()
    frame = outcomes(run)
    scored = {name: set(frame[frame.threat == name].example) for name in names}
    # The malicious ones of 2 are among those of 4, and it is the same inputs that may go anywhere.
    assert scored[names[0]] > scored[names[1]] > scored[names[2]] == scored[names[5]]
    harm = mine.clean_accuracy - mine.accuracy
    assert harm[names[5]] > harm[names[0]] and harm[names[5]] > 0.1


def test_what_makes_no_sense_is_left_out_and_nothing_is_judged_by_the_base_model(run):
    table = pd.read_csv(run / "summary.csv")
    mine = table[table.threat.str.startswith("collateral")]
    # Neither random signs on all inputs nor the base model's gradients are attacks on bystanders.
    assert "transfer-pgd-5" not in set(mine.attack)
    assert set(mine[mine.attack == "strongest"].strongest_attack) <= {"pgd-2", "aware-pgd-10", "clean"}
    report = (run / "report.md").read_text()
    dropped = report[report.index("## What did not run") :]
    assert re.search(r"transfer-pgd-5 on rci \(collateral-\d.*left out; the base model answers", dropped)
    assert "collateral" not in report[report.index("## Verdicts") : report.index("## Accuracy")]
    assert 'id="collateral"' in (run / "report.html").read_text()


def test_stored_inputs_are_verified_by_who_may_move_and_who_is_scored(run, csrobust):
    answer = csrobust("verify", run, "--json")
    assert answer.code == 0, answer.out + answer.err
    rows = {(row["threat"], row["attack"]): row for row in json.loads(answer.out)}
    box = rows["collateral-4-box/known", "aware-pgd-10"]
    assert box["inputs"] == 4 * 3 * 2 and box["outcomes"] == 12 * 2 and box["furthest"] <= 1
    assert all(row["differing"] == row["outside"] == 0 for row in rows.values())


def test_a_stated_number_runs_alone_and_more_than_a_batch_holds_runs_nowhere():
    from robustbench_coded.evaluation.options.check_options import inputs_for

    assert inputs_for(["collateral-3-box"], 8) == ["collateral-3-box"]
    assert inputs_for(["collateral-8", "batch"], 8) == ["batch"]
    assert inputs_for(["collateral"], 5)[:3] == ["collateral-1", "collateral-2", "collateral-4"]


def test_malicious_slots_are_spread_evenly():
    from robustbench_coded.evaluation.planning.batches import Batch, malicious_slots

    slots = np.concatenate([malicious_slots(Batch(i, tuple(range(8)), 8), 2, 0) for i in range(400)])
    counts = np.bincount(slots, minlength=8)
    assert len(slots) == 800 and counts.min() > 65 and counts.max() < 135
