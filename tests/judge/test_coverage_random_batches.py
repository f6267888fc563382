"""What benchmarks/errors/coverage_random_batches.py takes for the truth, and what it would see fail."""

import numpy as np
import pytest

from benchmarks.errors import coverage_random_batches as benchmark
from benchmarks.errors import coverage_random_populations as populations
from robustbench_coded.judge.anytime import upper_end

K, IMAGES, TAIL = populations.K, 5 * populations.K, benchmark.TAIL
BY_NAME = {population.name: population for population in populations.populations()}
VICTIMS = {population.name: population for population in populations.victims()}


def random_batches(rng, batches, images=IMAGES):
    return rng.random((batches, images), dtype=np.float32).argpartition(K, axis=1)[:, :K]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_truth_on_these_images_is_what_many_random_batches_leave(name):
    rng = np.random.default_rng(0)
    members = random_batches(rng, 2000)
    for _ in range(3):
        drawn = BY_NAME[name].draw(rng, rng.random(IMAGES) < populations.BASE)
        means = np.broadcast_to(drawn.random(members), members.shape).mean(axis=1)
        spread = max(means.std(), (drawn.truth * (1 - drawn.truth)) ** 0.5)  # where no batch survived
        assert means.mean() == pytest.approx(drawn.truth, abs=4.5 * spread / 2000**0.5)


@pytest.mark.parametrize("name", [name for name, population in BY_NAME.items() if population.others])
def test_the_truth_of_other_images_is_what_these_leave_on_average(name):
    rng = np.random.default_rng(1)
    bases = rng.random((600, IMAGES)) < populations.BASE
    truths = np.array([BY_NAME[name].draw(rng, base).truth for base in bases])
    wanted = BY_NAME[name].others(IMAGES)
    assert truths.mean() == pytest.approx(wanted, abs=4.5 * truths.std() / 600**0.5 + 1e-9)


@pytest.mark.parametrize("name", VICTIMS)
def test_the_truth_of_victims_is_what_they_keep_on_average(name):
    right, truth = VICTIMS[name].draw(np.random.default_rng(2), 400, 2 * K, 2 * K)
    apart = right.mean(axis=1) - truth
    assert apart.mean() == pytest.approx(0, abs=4.5 * apart.std() / 400**0.5 + 1e-9)


def test_the_capital_reaches_its_bound_exactly_beyond_the_end():
    rng = np.random.default_rng(3)
    for mean in (0.01, 0.1, 0.5):
        values = (rng.random((10, 60)) < mean).astype(float)
        ends = np.array([upper_end(row, TAIL) for row in values])
        assert benchmark.capital(values, ends + 1e-6, 1.0)[:, -1].all()
        assert not benchmark.capital(values, ends - 1e-6, 1.0)[:, -1].any()


def scored(name, batches, disjoint):
    rng = np.random.default_rng(4)
    for _ in range(40):
        members = random_batches(rng, batches, disjoint * K)
        base = rng.random(disjoint * K) < populations.BASE
        right = np.broadcast_to(BY_NAME[name].draw(rng, base).random(members), members.shape)
        yield benchmark.Scored(members, right, base, 0.0)


def test_bets_over_images_alone_would_be_seen_to_fail_where_batches_survive():
    ends = [row.by_image(150) for row in scored("3% of batches survive", 150, 10)]
    assert np.mean([benchmark.capital(means, 0.03, 1.0)[-1] for means in ends]) > 0.1


def test_bets_over_batches_alone_would_be_seen_to_fail_for_other_images():
    ends = [row.right.mean(axis=1) for row in scored("2% of images always right", 600, 5)]
    assert np.mean([benchmark.capital(means, 0.02, 1.0)[-1] for means in ends]) > 0.1
