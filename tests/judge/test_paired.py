from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, xlogy

from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.judge.paired import (
    NotPaired,
    in_own_batches,
    independent_difference,
    paired_difference,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject
from robustbench_coded.schema.words import IntervalKind

KEY = Case(Subject("erm", "rci", 16, 24), WHOLE_BATCH, Perturbation("linf", 0.1, "pixel"), "pgd-10")


def row(correct, *, by_batch=False, randomised=None, ids=None, draws=None):
    correct = np.asarray(correct, dtype=bool)
    ids = np.arange(len(correct)) if ids is None else np.asarray(ids)
    draws = np.arange(correct.shape[1]) if draws is None else np.asarray(draws)
    cell = Cell(ids, ids // 16, np.zeros(len(ids), int), draws, (~correct).astype(np.int32))
    randomised = correct.shape[1] > 1 if randomised is None else randomised
    return CaseResult(KEY, cell, None, len(ids), by_batch, randomised, True, (KEY,))


def scored(kept, batches, k=16):
    rng = np.random.default_rng(0)
    members = np.concatenate([rng.permutation(len(kept))[:k] for _ in range(batches)])
    return RandomBatches(members, np.repeat(np.arange(1, batches + 1), k), kept[members])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_exchanging_the_rows_mirrors_the_interval(first, second, seed):
    rng = np.random.default_rng(seed)
    one, other = (row(rng.random((64, 3)) < chance) for chance in (first, second))
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert -1 <= there.low <= there.estimate <= there.high <= 1
    assert there.high - there.low > 1e-3
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_the_same_outcomes_differ_by_no_more_than_0_of_n_leaves():
    same = np.random.default_rng(0).random((640, 10)) < 0.5
    found, bound = paired_difference(row(same), row(same)), 1 - 0.025 ** (1 / 640)
    assert (found.low, found.estimate, found.high) == pytest.approx((-bound, 0, bound))


def test_a_gain_over_nothing_is_the_accuracy_s_own_interval():
    kept = (np.arange(256) < 77)[:, None]
    found = paired_difference(row(kept), row(np.zeros((256, 1))))
    assert found.high == pytest.approx(clopper_pearson(77, 256, 0.025)[1])
    assert found.low == pytest.approx(clopper_pearson(77, 256, 0.025)[0], abs=0.01)


def test_few_images_that_differ_count_as_few():
    """Three of 128 images are right on the left alone, among 73% on which both agree."""
    base = np.arange(128) < 91
    found = paired_difference(row((base | (np.arange(128) > 124))[:, None]), row(base[:, None]))
    assert found.high == pytest.approx(clopper_pearson(3, 128, 0.025)[1]) and found.low < 0


SIZES = [n if n in (8, 13, 24, 48) else pytest.param(n, marks=pytest.mark.long) for n in range(8, 65)]


@pytest.mark.parametrize("n", SIZES)
def test_no_end_of_a_gain_errs_more_often_than_planned_wherever_the_truth_lies(n):
    """Every outcome of n images, at truths with no image, few and all images that differ."""
    near = np.r_[0, np.geomspace(5e-4, 0.05, 8), np.linspace(0.08, 0.5, 10)]
    alone, differ = (table.ravel() for table in np.meshgrid(near, np.r_[near, 1 - near]))
    truths = np.stack([differ * (1 - alone), differ * alone, 1 - differ])  # left alone, right alone, neither
    counts = np.array([(b, c, n - b - c) for b in range(n + 1) for c in range(n + 1 - b)])
    chance = np.exp(
        gammaln(n + 1) - gammaln(counts + 1).sum(axis=1) + xlogy(counts[:, None], truths.T).sum(axis=2).T
    )
    assert chance.sum(axis=1) == pytest.approx(1)
    for tail in (0.025, 0.0125):
        ends = {}
        for b, c, _ in counts[counts[:, 0] >= counts[:, 1]]:
            left, right = np.arange(n)[:, None] < b, np.arange(n)[:, None] >= n - c
            low, high = independent_difference(left, right, np.arange(n), tail)
            ends[b, c], ends[c, b] = (low, high), (-high, -low)
        low, high = np.array([ends[b, c] for b, c, _ in counts]).T
        gain = (truths[0] - truths[1])[:, None]
        errs = [(chance * wrong).sum(axis=1).max() for wrong in (low > gain + 1e-9, high < gain - 1e-9)]
        assert max(errs) <= tail


def test_only_shared_images_and_draws_are_compared():
    one = row(np.ones((32, 4)), ids=np.arange(32))
    correct = np.zeros((32, 3), bool)
    correct[:16, 0] = True
    other = row(correct, ids=np.arange(16, 48), draws=[2, 3, 9])
    found = paired_difference(one, other)
    assert (found.examples, found.first, found.second) == (16, 1.0, 0.5)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (row(np.ones((32, 4)), ids=np.arange(100, 132)), "no examples"),
        (row(np.ones((64, 4)), draws=[7, 8, 9, 10]), "no draws"),
    ],
)
def test_rows_with_nothing_in_common_are_refused(other, reason):
    with pytest.raises(NotPaired, match=reason):
        paired_difference(row(np.ones((64, 4))), other)


def test_disjoint_batches_have_no_interval_but_their_own_images_can_be_compared():
    first, second = row(np.ones((64, 4)), by_batch=True), row(np.zeros((64, 1)))
    found = paired_difference(first, second)
    assert (found.kind, found.low, found.high, found.estimate) == (None, -1, 1, 1)
    # All images differ: of 0 in 64 the base model may have as many right as the defence has wrong.
    assert in_own_batches(first, second).low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 64)))


def test_a_coin_for_each_batch_counts_by_the_larger_batches():
    """No difference in truth: coins of batches of 16 against those of 64, in 5 draws."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        narrow, wide = (row(np.repeat(rng.random((256 // k, 5)) < 0.5, k, axis=0)) for k in (16, 64))
        wide = replace(wide, cell=replace(wide.cell, batch=wide.cell.example // 64))
        there, back = paired_difference(narrow, wide), paired_difference(wide, narrow)
        missed += not (there.low <= 0 <= there.high and back.low <= 0 <= back.high)
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert missed <= 20


def test_a_gain_in_random_batches_is_the_interval_less_the_base_model_s_known_accuracy():
    rng = np.random.default_rng(0)
    kept, base = rng.random(384) < 0.9, rng.random(400) < 0.4
    defence = replace(row(kept[:, None], by_batch=True), random_batches=(scored(kept, 60),))
    network = row(base[:, None])
    found, back, own = (
        paired_difference(defence, network),
        paired_difference(network, defence),
        defence.interval(),
    )
    known = base[defence.random_batches[0].images].mean()  # on those that were scored in them
    assert (found.low, found.estimate, found.high) == pytest.approx(
        (own.low - known, own.estimate - known, own.high - known)
    )
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    assert found.kind is IntervalKind.EVALUATED_IMAGES and found.examples == own.images
    assert str(found).endswith(f"for the evaluated images, {own.images} images)")


def test_two_rows_in_random_batches_have_half_of_the_error_each():
    rng = np.random.default_rng(0)
    kept = [rng.random(384) < share for share in (0.9, 0.4)]
    one, other = (replace(row(k[:, None], by_batch=True), random_batches=(scored(k, 60),)) for k in kept)
    found, ends = paired_difference(one, other), [side.interval(0.0125) for side in (one, other)]
    assert found.low == ends[0].low - ends[1].high and found.high == ends[0].high - ends[1].low
    apart = replace(other.random_batches[0], example=other.random_batches[0].example + 1)
    elsewhere = replace(other, random_batches=(apart,))
    assert paired_difference(one, elsewhere).kind is None


def test_of_victims_those_count_that_are_more():
    few, many = np.arange(40), np.arange(300)
    threat = replace_threat(row(np.zeros((64, 10)), ids=np.arange(64)))
    assert replace(threat, random_batches=(RandomBatches(few, few, few < 0),)).interval() == threat.interval()
    more = replace(threat, random_batches=(RandomBatches(many, many, many % 10 == 0),)).interval()
    assert (more.low, more.high) == clopper_pearson(30, 300, 0.025) and more.images == 300


def replace_threat(made):
    return replace(made, case=made.case.under(made.case.threat.parse("victim/unknown")).of_attack("pgd-10"))
