"""A short, fixed-seed run of benchmarks/errors/coverage.py, where the full figures come from.

Each end may err in 2.5% of evaluations; of 300 that is at most 5% by chance (probability 0.5% a figure). The
planted faults are examples of a batch taken for independent, and the variance between batches without what 0
of n leaves.
"""

import pytest

from benchmarks.errors import coverage as benchmark
from benchmarks.errors import coverage_populations as populations
from robustbench_coded.judge.intervals import OF_BATCHES, clopper_pearson, student_factor
from robustbench_coded.judge.variance import between_batches

pytestmark = pytest.mark.long

SIMULATIONS, MOST = 300, 0.05


def without_unseen(evaluation, batch):
    """The interval from the spread between batches alone, without what 0 of n leaves."""
    correct, tail = evaluation.judged, benchmark.TAIL * OF_BATCHES
    estimate, spread = float(correct.mean()), between_batches(correct, batch)
    if estimate in (0, 1):
        return clopper_pearson(estimate * spread.least, spread.least, benchmark.TAIL)
    factor = student_factor(spread.degrees, tail)
    variance = max(spread.variance * factor, estimate * (1 - estimate) / correct.size / 2)
    effective = max(estimate * (1 - estimate) / variance, spread.least)
    return clopper_pearson(estimate * effective, effective, tail)


def worst(population, batches, method=benchmark.by_batch, last=128):
    cell = benchmark.Cell(population, (128,) * (batches - 1) + (last,))
    found = benchmark.measure(cell, method, SIMULATIONS)
    return max(found.low, found.high)


@pytest.mark.parametrize("batches", [5, 10])
@pytest.mark.parametrize(
    ("mean", "rho"), [(0.5, 0), (0.9, 0.1), (0.05, 0.1), (0.02, 0.5), (0.9, 0.5), (0.1, 1)]
)
def test_each_end_errs_as_rarely_as_promised(mean, rho, batches):
    assert worst(populations.correlated(mean, rho, draws=4), batches) <= MOST


def test_a_small_last_batch_does_no_harm():
    assert worst(populations.correlated(0.9, 0.1, draws=4), 5, last=16) <= MOST


def test_batches_that_survive_as_a_whole_are_known_from_weaker_attacks():
    population = populations.survival(0.2, 0.05)
    assert worst(population, 10) <= MOST
    # Alone, the batches' spread does not know of batches that did not come.
    assert worst(population, 10, without_unseen) > 0.07


@pytest.mark.parametrize("batches", [5, 10])
def test_a_kind_of_batch_that_did_not_come_is_reckoned_with_where_hardly_anything_is_right(batches):
    population = populations.two_kinds(0.15, 0.9, 0.02)
    assert worst(population, batches) <= MOST
    assert worst(population, batches, without_unseen) > 0.1


def test_victims_are_clustered_by_their_batch():
    cell = benchmark.Cell(populations.correlated(0.9, 0.3, draws=4), (13, 13, 13, 13, 12))
    found = benchmark.measure(cell, benchmark.by_batch, SIMULATIONS)
    assert max(found.low, found.high) <= MOST
    one_by_one = benchmark.measure(cell, benchmark.ignoring_batches, SIMULATIONS)
    assert max(one_by_one.low, one_by_one.high) > 0.1


def test_intervals_hold_the_accuracy_of_a_linear_model_under_rci():
    assert worst(populations.rci_linear(190, margin=1.2, batches=2000), 5) <= MOST


def test_intervals_hold_the_accuracy_of_a_random_ensemble():
    population = populations.random_ensemble((0.9, 0.3))
    assert worst(population, 5, benchmark.by_example) <= MOST
    assert worst(population, 5, benchmark.ignoring_batches) > 0.1


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_two_known_draws_learn_from_other_rows_what_a_draw_shares(batches):
    population = populations.random_ensemble_known(2)
    assert worst(population, batches, benchmark.by_example) <= MOST
    if batches < 5:
        assert worst(population, batches, benchmark.row_alone) > MOST


def test_noise_of_each_input_makes_no_interval_wider():
    for batches, draws, noise in ((1, 2, 0.5), (5, 2, 1.0), (5, 10, 0.2)):
        cell = benchmark.Cell(populations.noisy(noise, draws), (128,) * batches)
        found, alone = (
            benchmark.measure(cell, method, SIMULATIONS)
            for method in (benchmark.by_example, benchmark.row_alone)
        )
        assert max(found.low, found.high) <= MOST
        assert found.width < 1.01 * alone.width


@pytest.mark.parametrize(
    "pair",
    [
        populations.above_base(0.2, 0.1, 0.05),
        populations.above_base(0.02, 0.5, 0.0),
        populations.above_base(0.1, 1, 0.0),
        populations.alike(0.5, 0.4),
    ],
    ids=lambda pair: pair.name,
)
def test_differences_err_as_rarely_at_each_end(pair):
    found = benchmark.measure_pair(pair, 5, SIMULATIONS)
    assert max(found.low, found.high) <= MOST
