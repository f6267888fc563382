"""Means, differences and corruption errors against closed forms and planted truths."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.paper.shift.estimates import (
    Answers,
    SetFacts,
    accuracy,
    corruption_error,
    difference,
    means_of,
)
from robustbench_coded.schema.case import Subject

EXAMPLES, K = 200, 20


def sets(*named):
    return [SetFacts("c", name, severity, 0, EXAMPLES, "") for name, severity in named]


def subject(chosen, shares, seed, *, clustered=False, draws=1, k=K):
    generator = np.random.RandomState(seed)
    right = {one: generator.rand(EXAMPLES, draws) < share for one, share in zip(chosen, shares, strict=True)}
    return Answers(Subject("a", "standard", None, None), right, clustered, k)


FOG = sets(("fog", 1), ("fog", 2), ("frost", 1))


def test_one_set_has_the_exact_interval():
    answers = subject(FOG, (0.9, 0.5, 0.2), 0)
    found = accuracy(answers, FOG[:1])
    right = int(answers.right[FOG[0]].sum())
    assert (found.low, found.high) == pytest.approx(clopper_pearson(right, EXAMPLES, 0.025))


def test_a_mean_over_alike_sets_is_known_no_better_than_one_of_them():
    answers = subject(FOG, (0.7, 0.7, 0.7), 0)
    same = Answers(answers.subject, dict.fromkeys(FOG, answers.right[FOG[0]]), False, K)
    one, three = accuracy(same, FOG[:1]), accuracy(same, FOG)
    assert three.value == one.value
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=2e-3)
    apart = accuracy(answers, FOG)
    assert apart.high - apart.low < 0.7 * (one.high - one.low)


def test_differences_of_means_are_students_paired_interval():
    one, other = subject(FOG, (0.9, 0.6, 0.4), 1), subject(FOG, (0.8, 0.6, 0.2), 2)
    found = difference(one, other, FOG)
    student = ttest_rel(one.of(FOG).mean(axis=1), other.of(FOG).mean(axis=1)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("chosen", [FOG[:1], FOG], ids=["one set", "several sets"])
def test_equal_answers_still_leave_what_0_of_n_leaves(chosen, clustered):
    answers = subject(FOG, (0.9, 0.5, 0.2), 0, clustered=clustered)
    alike = Answers(answers.subject, answers.right, clustered, K)
    found = difference(answers, alike, chosen)
    fewest, most = (clopper_pearson(0, n, 0.025)[1] for n in (EXAMPLES, EXAMPLES / K))
    assert found.value == 0 and found.low == -found.high
    assert fewest < found.high <= most * 1.0001 if clustered else found.high == pytest.approx(fewest)
    ratio = corruption_error(answers, alike, chosen)
    assert ratio.low < ratio.value == 1 < ratio.high


def test_what_every_example_shares_is_not_known_exactly():
    always = subject(FOG, (1.1, 1.1, -0.1), 0)  # right under two sets of three, whatever the example
    never = subject(FOG, (-0.1, -0.1, 1.1), 0)
    unseen = clopper_pearson(0, EXAMPLES, 0.025)[1]
    assert accuracy(always, FOG) == pytest.approx((2 / 3, 2 / 3 * (1 - unseen), 2 / 3 + unseen / 3))
    third = difference(always, never, FOG)
    assert third == pytest.approx((1 / 3, 1 / 3 - 4 / 3 * unseen, (1 + 2 * unseen) / 3))
    assert difference(always, never, FOG[:2]) == pytest.approx((1, 1 - 2 * unseen, 1))


def test_more_answers_that_differ_never_narrow_an_interval():
    answers = subject(FOG, (0.9, 0.5, 0.2), 0)
    widths = []
    for changed in range(4):
        right = {one: column.copy() for one, column in answers.right.items()}
        right[FOG[0]][:changed] ^= True
        found = difference(answers, Answers(answers.subject, right, False, K), FOG)
        widths.append(found.high - found.low)
    assert widths == sorted(widths)


def test_batches_that_fall_as_one_widen_every_interval():
    plain = subject(FOG, (0.5, 0.5, 0.5), 3)
    whole = {one: np.repeat(right[:: EXAMPLES // 10], 20, axis=0) for one, right in plain.right.items()}
    alike = Answers(plain.subject, whole, True, K)
    base = subject(FOG, (0.5, 0.5, 0.5), 4)
    for of in (lambda a: accuracy(a, FOG), lambda a: difference(a, base, FOG)):
        narrow, wide = of(plain), of(alike)
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_answers_in_other_batches_are_paired_over_groups_that_are_unions_of_both():
    one = subject(FOG, (0.9, 0.6, 0.4), 1, clustered=True, draws=2, k=20)
    other = subject(FOG, (0.8, 0.6, 0.2), 2, clustered=True, draws=3, k=50)
    means = [a.of(FOG).mean(axis=1).reshape(-1, 100).mean(axis=1) for a in (one, other)]
    student = ttest_rel(*means).confidence_interval(0.95)
    found = difference(one, other, FOG)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))
    wide = [Answers(a.subject, a.right, True, 100) for a in (one, other)]
    single = difference(one, other, FOG[:1])
    assert single.value == pytest.approx(one.right[FOG[0]].mean() - other.right[FOG[0]].mean())
    assert single.low < single.value < single.high
    assert corruption_error(one, other, FOG) == pytest.approx(corruption_error(*wide, FOG))
    alone = Answers(other.subject, other.right, False, 50)  # whose batches mean nothing
    assert difference(one, alone, FOG) != pytest.approx(found)


def test_the_corruption_error_is_a_mean_of_ratios_of_sums_over_severities():
    base, answers = subject(FOG, (0.8, 0.6, 0.5), 5), subject(FOG, (0.9, 0.8, 0.5), 6)

    def errors(one, *chosen):
        return sum(1 - one.right[FOG[i]].mean() for i in chosen)

    found = corruption_error(answers, base, FOG)
    expected = (errors(answers, 0, 1) / errors(base, 0, 1) + errors(answers, 2) / errors(base, 2)) / 2
    assert found.value == pytest.approx(expected) and found.low < expected < found.high
    itself = corruption_error(base, base, FOG)
    assert itself == pytest.approx((1, 1, 1))
    assert corruption_error(answers, subject(FOG, (1.1, 1.1, 1.1), 0), FOG) is None


def test_the_interval_of_a_corruption_error_covers():
    truth = (0.1 / 0.3 + 0.4 / 0.5) / 2
    chosen = sets(("fog", 1), ("frost", 1))
    covered = 0
    for seed in range(200):
        base, answers = subject(chosen, (0.7, 0.5), 2 * seed), subject(chosen, (0.9, 0.6), 2 * seed + 1)
        found = corruption_error(answers, base, chosen)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 199


def test_means_are_named_by_what_they_are_over():
    assert list(means_of(FOG)) == ["mean of 2", "fog", "frost", "severity 1", "severity 2"]
    assert means_of(sets(("v6", 0))) == {}
