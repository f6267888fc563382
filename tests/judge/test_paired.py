from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from robustbench_coded.judge.anytime import RandomBatches
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import clustered_interval
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.judge.paired import NotPaired, correlation_of, paired_difference
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject
from robustbench_coded.schema.words import IntervalKind

KEY = Case(Subject("erm", "rci", 16, 24), WHOLE_BATCH, Perturbation("linf", 0.1, "pixel"), "pgd-10")


def row(correct, *, batch_size=16, by_batch=True, randomised=True, ids=None, draws=None, batch=None):
    correct = np.asarray(correct, dtype=bool)
    ids = np.arange(len(correct)) if ids is None else np.asarray(ids)
    draws = np.arange(correct.shape[1]) if draws is None else np.asarray(draws)
    batch = ids // batch_size if batch is None else batch
    cell = Cell(ids, batch, np.zeros(len(ids), int), draws, (~correct).astype(np.int32))
    return CaseResult(KEY, cell, None, len(ids), by_batch, randomised, True, (KEY,))


def test_away_from_the_ends_it_is_the_paired_student_interval_over_batches():
    rng = np.random.default_rng(0)
    shift = np.repeat(rng.normal(0, 0.12, 40), 64)[:, None]
    one = rng.random((2560, 10)) < 0.55 + shift
    other = rng.random((2560, 10)) < 0.45 + shift
    found = paired_difference(row(one, batch_size=64), row(other, batch_size=64))
    means = [table.reshape(40, -1).mean(axis=1) for table in (one, other)]
    student = ttest_rel(*means).confidence_interval(0.95)
    assert found.estimate == pytest.approx(one.mean() - other.mean())
    assert found.units == 40
    # Both intervals are of about 1.9 points; unpaired it would be 10.
    assert (found.low, found.high) == pytest.approx(tuple(student), abs=0.006)


@given(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_exchanging_the_rows_mirrors_the_interval(first, second, by_batch, seed):
    rng = np.random.default_rng(seed)
    one, other = (row(rng.random((64, 3)) < chance, by_batch=by_batch) for chance in (first, second))
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert -1 <= there.low <= there.estimate <= there.high <= 1
    assert there.high - there.low > 1e-3
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_the_same_outcomes_differ_by_no_more_than_0_of_n_leaves():
    same = np.random.default_rng(0).random((640, 10)) < 0.5
    found = paired_difference(row(same, by_batch=False), row(same, by_batch=False))
    bound = 1 - 0.025 ** (1 / 640)
    assert (found.low, found.estimate, found.high) == pytest.approx((-bound, 0, bound))
    whole = np.repeat(np.random.default_rng(0).random((40, 1)) < 0.5, 16, axis=0)
    bound = 1 - 0.025 ** (1 / 40)
    assert paired_difference(row(whole), row(whole)).high == pytest.approx(bound)


def test_a_difference_is_no_wider_than_that_of_the_two_intervals_at_half_of_the_error():
    """Three batches that happen to move apart: their measured correlation is -1."""
    kept = [np.repeat([0.80, 0.81, 0.82], 128), np.repeat([0.52, 0.49, 0.46], 128)]
    order = np.random.default_rng(0).permutation(128)
    ranks = np.tile((order + 0.5) / 128, 3)
    rows = [row((ranks < share)[:, None], batch_size=128) for share in kept]
    found = paired_difference(*rows)
    one, other = (
        clustered_interval(made.cell.correct, made.cell.batch, 0.0125, made.correlation) for made in rows
    )
    assert found.low == pytest.approx(one[0] - other[1]) and found.high <= one[1] - other[0]
    assert correlation_of(*(made.cell.correct for made in rows), rows[0].cell.batch) < -0.9


def test_two_rows_without_a_right_answer_have_the_width_of_0_of_n():
    found = paired_difference(
        row(np.zeros((640, 10))), row(np.zeros((640, 1)), by_batch=False, randomised=False)
    )
    # The defence may keep one batch in 40, the base model one example in 640.
    by_batch, by_example = (1 - 0.025 ** (1 / outcomes) for outcomes in (40, 640))
    assert (found.low, found.high) == pytest.approx((-by_example, by_batch))


def test_an_example_wise_row_is_paired_by_the_batches_of_the_other():
    rng = np.random.default_rng(0)
    base = row(rng.random((320, 1)) < 0.9, batch_size=100, by_batch=False, randomised=False)
    lucky = np.repeat(rng.random(20) < 0.5, 16)[:, None]
    found = paired_difference(row(lucky & (rng.random((320, 4)) < 0.95)), base)
    assert found.units == 20
    # The batches are right or wrong as one: 20 outcomes, a standard error of 11 points.
    assert found.high - found.low > 0.35


def test_small_batches_are_paired_in_the_large_ones_that_hold_them():
    rng = np.random.default_rng(0)
    found = paired_difference(
        row(rng.random((256, 4)) < 0.5, batch_size=8), row(rng.random((256, 4)) < 0.5, batch_size=64)
    )
    assert found.units == 4


def test_only_shared_examples_and_draws_are_compared():
    one = row(np.ones((32, 4)), ids=np.arange(32), by_batch=False)
    correct = np.zeros((32, 3), bool)
    correct[:16, 0] = True
    other = row(correct, ids=np.arange(16, 48), draws=[2, 3, 9], by_batch=False)
    found = paired_difference(one, other)
    assert (found.examples, found.first, found.second) == (16, 1.0, 0.5)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (row(np.ones((32, 4)), ids=np.arange(100, 132)), "no examples"),
        (row(np.ones((64, 4)), draws=[7, 8, 9, 10]), "no draws"),
        (row(np.ones((64, 4)), batch=np.arange(64) % 4), "no batches"),
    ],
)
def test_rows_with_nothing_in_common_are_refused(other, reason):
    with pytest.raises(NotPaired, match=reason):
        paired_difference(row(np.ones((64, 4))), other)


def test_a_gain_lies_between_the_ends_in_random_batches_less_the_base_models_known_accuracy():
    rng, images, k = np.random.default_rng(0), 384, 16
    kept, base = rng.random(images) < 0.9, rng.random(images) < 0.4
    members = np.concatenate([rng.permutation(images)[:k] for _ in range(60)])
    random = RandomBatches(members, np.repeat(np.arange(1, 61), k), kept[members])
    defence = replace(row(kept[:, None], randomised=False), random_batches=(random,))
    found = paired_difference(defence, row(base[:, None], by_batch=False, randomised=False))
    own = defence.interval(0.0125)
    assert found.low >= own.low - base.mean() - 1e-12 and found.high <= own.high - base.mean() + 1e-12
    assert found.kind is IntervalKind.EVALUATED_IMAGES
    assert found.low > random.above(lambda numbers: base[numbers], 0.025)[0]  # shorter than bets on the gain


def test_of_victims_the_tighter_end_counts():
    """Random batches of a weak attack say less than all attacks together show themselves."""
    correct, images = np.zeros((64, 10), bool), np.arange(300)
    weak = RandomBatches(images, images + 1, np.arange(300) % 10 == 0)
    alone = replace(row(correct, by_batch=False, batch=np.arange(64)), disjoint_batches=3)
    both = replace(alone, random_batches=(weak,))
    assert weak.interval(0.0225)[1] > 0.1
    assert both.interval().high == alone.interval(0.0025).high < 0.1
    assert both.interval().population == alone.interval(0.0025).population
