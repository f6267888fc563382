"""`csrobust verify` on csrobust's own run in every norm, and on one of its inputs that left the set."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from tests.run_folders import perturbed, replace_perturbed

pytestmark = pytest.mark.long

NORMS = {"linf": 0.1, "l2": 0.8, "l1": 4, "l0": 3}


@pytest.fixture(autouse=True)
def few_victims(monkeypatch):
    monkeypatch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 4)


def run_in(csrobust, digits_erm, out, norm, attacks):
    answer = csrobust(
        "eval", "--ckpt", digits_erm, "--data", "digits", "--limit", 16, "--batch-size", 8, "--draws", 3,
        "--rci", "N=1.5K", "--inputs", "batch,co-batch", "--norm", norm, "--eps", NORMS[norm],
        "--attacks", attacks, "--save-adversarials", "--out", out, "--quiet",
    )  # fmt: skip
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("norm", NORMS)
def test_a_run_in_every_norm_holds_until_an_input_leaves_it(csrobust, digits_erm, tmp_path, norm):
    attacks = "sparse" if norm == "l0" else "pgd-5,apgd-ce-10,aware-pgd-3,parts-24,square-40"
    run_in(csrobust, digits_erm, tmp_path / "run", norm, attacks)
    answer = csrobust("verify", tmp_path / "run", "--json")
    rows = [row for row in json.loads(answer.out) if "file" not in row]
    assert answer.code == 0 and all(row["holds"] and row["furthest"] <= 1 + 1e-5 for row in rows)
    assert max(row["furthest"] for row in rows) > 0.9
    summary = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert set(summary[summary.attack != "clean"].norm) == {norm}
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    record = next(
        r for r in manifest["cases"] if "-5" in r["case"]["attack"] or "spgd" in r["case"]["attack"]
    )
    run, unit = tmp_path / "run", record["units"][0]
    tensors = perturbed(run, unit)
    chequered = 0.2 * (-1.0) ** (np.arange(8)[:, None] + np.arange(8))  # further than any norm allows
    tensors["x"][0] = (tensors["x"][0] + torch.from_numpy(chequered).float()).clamp(0, 1)
    replace_perturbed(run, unit, tensors)
    answer = csrobust("verify", tmp_path / "run", "--json")
    rows = [row for row in json.loads(answer.out) if "file" not in row]
    assert answer.code == 1 and sum(row["outside"] for row in rows) == 1
