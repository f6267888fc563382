"""``--limit`` and ``--first``: what run.json and the report say of them, and what is never mixed."""

import json

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.data.registry import load_data

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--limit", "40", "--batch-size", "16", "--rci", "N=24", "--attacks", "fgsm")
SMALL += ("--draws", "2", "--selection-draws", "1", "--threads", "1", "--quiet")


def outcomes(run):
    return pd.concat([pd.read_parquet(path) for path in sorted((run / "outcomes").glob("*.parquet"))])


def test_a_random_part_of_every_class_is_taken_recorded_and_told(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    options = ("eval", "--ckpt", digits_erm, *SMALL, "--save-adversarials", "--out", run)
    assert csrobust(*options).code == 0
    data = load_data("digits")
    rows = outcomes(run)
    assert (data.labels[rows.example] == rows.label).all() and rows.example.nunique() == 40
    labels = rows.drop_duplicates("example").label
    assert np.abs(np.bincount(labels, minlength=10) - 40 * np.bincount(data.labels) / 640).max() < 1
    assert json.loads((run / "run.json").read_text())["identity"]["subset"] == "stratified"
    files = sorted((run / "outcomes").iterdir())
    before = [(file.name, file.stat().st_mtime_ns) for file in files]
    assert csrobust(*options).code == 0
    assert before == [(file.name, file.stat().st_mtime_ns) for file in sorted((run / "outcomes").iterdir())]
    # A new process finds the same images again.
    verified = csrobust("verify", run)
    assert verified.code == 0, verified.out + verified.err
    refused = csrobust(*options, "--first")
    assert refused.code == 2 and refused.err.count("\n") == 1
    other = csrobust("show", run, "--example", int(rows.example.max()) + 1)
    assert other.code == 2 and str(rows.example.max()) in other.err


def test_a_run_made_before_there_was_a_choice_goes_on_with_the_first_examples_alone(
    csrobust, digits_erm, tmp_path
):
    run = tmp_path / "run"
    options = ("eval", "--ckpt", digits_erm, *SMALL, "--out", run)
    assert csrobust(*options, "--first").code == 0
    manifest = json.loads((run / "run.json").read_text())
    assert sorted(outcomes(run).example.unique()) == list(range(40))
    del manifest["identity"]["subset"]
    (run / "run.json").write_text(json.dumps(manifest))
    files = sorted((run / "outcomes").iterdir())
    before = [(file.name, file.stat().st_mtime_ns) for file in files]
    refused = csrobust(*options)
    assert refused.code == 2 and "give --first" in refused.err
    assert csrobust(*options, "--first").code == 0
    assert before == [(file.name, file.stat().st_mtime_ns) for file in sorted((run / "outcomes").iterdir())]


def test_all_of_the_data_comes_in_random_order_or_with_first_in_its_own(csrobust, digits_erm, tmp_path):
    file = tmp_path / "few.npz"
    data = load_data("digits").first(24)
    np.savez(file, x=np.asarray(data.images[np.arange(24)] / 16, dtype=np.float32), y=data.labels)
    all_of_it = ("--data", f"npz:{file}", "--limit", "24", "--eps", "0.1", "--out", tmp_path / "run")
    assert csrobust("eval", "--ckpt", digits_erm, *SMALL, *all_of_it).code == 0
    assert sorted(outcomes(tmp_path / "run").example.unique()) == list(range(24))
    other_order = csrobust("eval", "--ckpt", digits_erm, *SMALL, *all_of_it, "--first")
    assert other_order.code == 2 and other_order.err.count("\n") == 1
