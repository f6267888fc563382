"""Praise is for a batch size: a short attack in the smallest batch against all attacks in full ones."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.small_batches import SmallBatches, small_batches, smaller_batches


@pytest.mark.parametrize(
    ("inputs", "clean", "left", "outcome"),
    [
        (128, 128, 120, "passed"),
        (128, 128, 64, "failed"),  # half fall, of 30% in full batches
        (128, 70, 40, "passed"),  # small batches cost clean accuracy: not a matter of attacks
        (8, 8, 4, "passed"),  # four of eight say too little
        (0, 0, 0, "passed"),  # it answers no other size
    ],
)
def test_more_falls_in_small_batches_than_in_full_ones(evaluation, inputs, clean, left, outcome):
    run, number = evaluation(), np.arange(800)
    for name, part in (("clean", 0.9), ("random-sign", 0.9), ("pgd-10", 0.6)):
        right = np.repeat((number * 89 % 800 < part * 800)[:, None], 4, axis=1)
        run.add(name, right, right)
    made = next(r for r in case_results(*run.parts()) if r.case.attack == "ensemble")
    check = smaller_batches(made, SmallBatches(2, inputs, clean, left, 0.1))
    assert check.outcome == outcome
    if check.failed:
        assert "batches of 2 takes 50.0% of 100.0%" in check.finding and "30.0% of 90.0%" in check.finding
        assert str(check.next_step) == "evaluate it in batches that are sent (--batch-size 2)"


def test_what_earlier_versions_stored_says_nothing(tmp_path):
    stored = {"a" * 20: {"eps": 0.1, "tests": []}, "b" * 20: {"eps": 0.1, "small_batches": {"k": 1}}}
    counted = {"k": 1, "inputs": 4, "clean": 4, "left": 0}
    stored["c" * 20] = {"eps": 0.1, "small_batches": counted}
    (tmp_path / "selftests").mkdir()
    for name, data in stored.items():
        (tmp_path / "selftests" / f"{name}.json").write_text(json.dumps(data))
    probes = [SimpleNamespace(subject=name[0], selftests=name) for name in [*stored, "d" * 20]]
    probes.append(SimpleNamespace(subject="e", selftests=None))
    found = small_batches(tmp_path, SimpleNamespace(probes=probes))
    assert found == {"c": SmallBatches(1, 4, 4, 0, 0.1)}
