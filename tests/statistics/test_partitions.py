import numpy as np
import pytest

from robustbench_coded.statistics.partitions import partition_difference, partition_interval

TAIL, K = 0.025, 32


def random_partitions(rng, examples, partitions):
    return np.stack([rng.permutation(examples) // K for _ in range(partitions)], axis=1)


def missed(fate, examples, partitions, truth, simulations=120):
    """Shares of intervals above and below the truth; ``fate`` [batches] of batches by their members'
    traits."""
    rng, ends = np.random.default_rng(0), []
    for _ in range(simulations):
        trait = rng.standard_normal(examples)
        batch = random_partitions(rng, examples, partitions)
        survive = [fate(rng, np.bincount(of, trait) / np.sqrt(K)) for of in batch.T]
        correct = np.stack([kept[of] for kept, of in zip(survive, batch.T)], axis=1)
        ends.append(partition_interval(correct, batch, TAIL))
    low, high = np.transpose(ends)
    return (low > truth).mean(), (high < truth).mean(), (high - low).mean()


def test_fates_of_batches_are_seen_in_many_partitions():
    low, high, width = missed(lambda rng, mean: rng.random(len(mean)) < 0.1, 640, 60, 0.1)
    assert max(low, high) <= 0.05
    assert width < 0.3  # 20 batches alone leave 0.34


def test_what_the_examples_decide_is_not_averaged_away_by_partitions():
    # A batch survives where the mean trait of its members is high: other partitions of the same examples
    # have the same mean.
    low, high, _ = missed(lambda rng, mean: mean > 0, 320, 40, 0.5)
    assert max(low, high) <= 0.05


def test_none_right_leaves_0_of_the_batches_scored_and_at_most_of_the_examples():
    rng = np.random.default_rng(0)
    few, many = (random_partitions(rng, 320, partitions) for partitions in (4, 100))
    for batch, outcomes in ((few, 40), (many, 320)):
        found = partition_interval(np.zeros(batch.shape, bool), batch, TAIL)
        assert found == (0, pytest.approx(1 - TAIL ** (1 / outcomes)))
        found = partition_interval(np.ones(batch.shape, bool), batch, TAIL)
        assert found == (pytest.approx(TAIL ** (1 / outcomes)), 1)


def test_one_partition_is_refused():
    with pytest.raises(ValueError, match="2 or more partitions"):
        partition_interval(np.ones((64, 1), bool), np.zeros((64, 1), int), TAIL)


def ends(correct, base, tail=TAIL):
    batch = random_partitions(np.random.default_rng(0), *correct.shape)
    return partition_difference(correct, batch, base, tail)[1]


def test_a_difference_of_nothing_reaches_as_far_as_0_of_n():
    base = np.arange(640) % 3 == 0
    same = np.repeat(base[:, None], 100, axis=1)
    assert ends(same, base) == pytest.approx(1 - TAIL ** (1 / 640))
    assert ends(np.zeros_like(same), base) < -0.25  # a certain loss


def test_the_upper_end_of_a_difference_errs_as_seldom_as_it_may():
    rng, highs = np.random.default_rng(1), []
    for _ in range(300):
        base = rng.random(320) < 0.4
        batch = random_partitions(rng, 320, 30)
        shift = rng.normal(0, 0.5, (30, 10))[np.arange(30)[None, :], batch]
        right = np.where(base, 1.5, -1.5)[:, None] + shift + rng.standard_normal((320, 30)) > 0
        highs.append(partition_difference(right, batch, base, TAIL)[1])
    # Both kinds of flips have probability Phi(-1.5 / sqrt(1.25)) = 0.0898, of 0.6 and 0.4 of the examples.
    assert np.mean(np.asarray(highs) < 0.0898 * 0.2) <= 0.05
    assert np.mean(highs) < 0.08


def test_both_ends_of_a_clean_loss_err_as_seldom_as_they_may():
    rng, found = np.random.default_rng(2), []
    for _ in range(300):
        base = rng.random(320) < 0.95
        batch = random_partitions(rng, 320, 20)
        shift = rng.normal(0, 0.3, (20, 10))[np.arange(20)[None, :], batch]
        right = np.where(base, 2.0, -2.0)[:, None] + shift + rng.standard_normal((320, 20)) > 0
        found.append(partition_difference(right, batch, base, TAIL))
    low, high = np.asarray(found).T
    # A flip has probability Phi(-2 / sqrt(1.09)) = 0.0277.
    truth = 0.0277 * (0.05 - 0.95)
    assert np.mean(low > truth) <= 0.05 and np.mean(high < truth) <= 0.05
    assert np.mean(high - low) < 0.05
