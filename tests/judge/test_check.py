"""What a check reports: when a comparison fails, and what it asks for."""

import numpy as np
import pytest

from robustbench_coded.judge import checks as module
from robustbench_coded.judge.checks import compared
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
