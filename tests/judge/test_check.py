"""What a check reports: when a comparison fails, and what it asks for."""

import numpy as np
import pytest

from robustbench_coded.judge import checks as module
from robustbench_coded.judge.checks import NextStep, compared, merged_steps, run_attacks
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.paired import Difference


@pytest.mark.parametrize(
    ("low", "estimate", "high", "outcome"),
    [
        (0.001, 0.02, 0.04, "failed"),
        (-0.001, 0.02, 0.04, "passed"),
        (0.001, 0.004, 0.007, "passed"),  # certain, and of no concern
        (-0.05, -0.01, 0.03, "passed"),
        (-0.05, 0.02, 0.09, "not run"),  # could not have failed
    ],
)
def test_a_comparison_fails_on_a_certain_difference_of_some_size(
    evaluation, monkeypatch, low, estimate, high, outcome
):
    row = case_results(*evaluation().add("pgd-10", np.ones((16, 1))).parts())[0]
    difference = Difference(estimate, low, high, 0.5, 0.5 - estimate, 800)
    monkeypatch.setattr(module, "in_own_batches", lambda *args: difference)
    check = compared("check", row, row, "fault", "pgd-20")
    assert check.outcome == outcome
    assert check.run_next == (("pgd-20",) if outcome == "failed" else ())


def test_attacks_are_named_once_and_steps_that_run_them_are_one():
    steps = [
        run_attacks("eot20-pgd-40"),
        NextStep("look"),
        run_attacks("square-1000", "eot20-pgd-40"),
        run_attacks("apgd-mt-20"),
    ]
    together = run_attacks("eot20-pgd-40", "square-1000", "apgd-mt-20")
    assert merged_steps(steps) == (together, NextStep("look"))


def test_other_steps_stay_as_they_are_and_are_told_once():
    others = tuple(NextStep(do) for do in ("evaluate more examples (--limit)", "look", "run it again"))
    assert merged_steps([*others, *others]) == others
    assert merged_steps([]) == ()


def test_a_step_reads_as_what_to_run_or_to_do():
    assert str(run_attacks("pgd-20", "square-1000", "pgd-20")) == "run pgd-20, square-1000"
    assert str(NextStep("look")) == "look"
    assert run_attacks() is None
