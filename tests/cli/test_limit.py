"""``--limit`` and ``--first``: what run.json and the report say of them, and what is never mixed."""

import json

import numpy as np
import pytest

from robustbench_coded.data.registry import load_data
from tests.run_folders import computed, outcomes

pytestmark = pytest.mark.long

SMALL = ("--data", "digits", "--limit", "40", "--batch-size", "16", "--rci", "N=24", "--attacks", "fgsm")
SMALL += ("--draws", "2", "--threads", "1", "--quiet")


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
    before = computed(run)
    assert csrobust(*options).code == 0
    assert computed(run) == before
    # A new process finds the same images again.
    verified = csrobust("verify", run)
    assert verified.code == 0 and verified.out.count(": equal (") == verified.out.count("\n") - 4, (
        verified.out + verified.err
    )
    refused = csrobust(*options, "--first")
    assert refused.code == 2 and refused.err.count("\n") == 1
    other = csrobust("show", run, "--example", int(rows.example.max()) + 1)
    assert other.code == 2 and str(rows.example.max()) in other.err
