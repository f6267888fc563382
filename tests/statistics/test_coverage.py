"""A short, fixed-seed run of benchmarks/coverage.py, where the full figures come from."""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
_SPEC = importlib.util.spec_from_file_location("coverage_benchmark", _PATH)
coverage = importlib.util.module_from_spec(_SPEC)
sys.modules["coverage_benchmark"] = coverage
_SPEC.loader.exec_module(coverage)

SIMULATIONS = 800  # the promise is 92.5 to 98%; the standard error of so many is 0.8 points


@pytest.mark.parametrize("batches", [5, 10])
@pytest.mark.parametrize(
    ("name", "simulate", "truth"),
    [
        ("coin flip", coverage.coin_flip(0.95), 0.95),
        ("mean 0.5, correlation 0.3", coverage.correlated(0.5, 0.3), 0.5),
        ("mean 0.9, correlation 0.1", coverage.correlated(0.9, 0.1), 0.9),
    ],
)
def test_intervals_over_batches_hold_the_truth_as_often_as_they_say(name, simulate, truth, batches):
    found = coverage.measure(coverage.Cell(name, simulate, truth, batches), SIMULATIONS)
    assert 0.92 <= found.covered <= 0.985
    if "correlation" in name:
        assert found.covered_ignoring_batches < 0.3


def test_intervals_hold_the_accuracy_of_a_linear_model_under_rci():
    simulate = coverage.rci_linear(190, margin=1.2)
    truth = coverage.estimated_truth(simulate, batches=2000)
    found = coverage.measure(coverage.Cell("rci", simulate, truth, 5), SIMULATIONS)
    assert 0.92 <= found.covered <= 0.985


def test_intervals_hold_the_accuracy_of_a_random_ensemble():
    cell = coverage.Cell("ensemble", coverage.random_ensemble((0.9, 0.3)), 0.6, 5, batch_dependent=False)
    found = coverage.measure(cell, SIMULATIONS)
    assert 0.92 <= found.covered <= 0.985
    assert found.covered_ignoring_batches < 0.6
