import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from robustbench_coded.judge.judge import step_down

TAIL = 0.025


def normal(estimate):
    return lambda tail: (estimate + float(ndtri(tail)), estimate - float(ndtri(tail)))


def above_zero(ends):
    return ends[0] > 0


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=8))
def test_holms_decisions_are_those_of_the_ordered_p_values(estimates):
    from scipy.special import ndtr

    p_values = ndtr(-np.array(estimates))
    expected, alive = [False] * len(estimates), True
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        alive = alive and p_values[index] < TAIL / (len(estimates) - rank)
        expected[index] = alive
    found = step_down([normal(estimate) for estimate in estimates], above_zero, TAIL)
    assert [made.settled for made in found] == expected
    for made, estimate in zip(found, estimates):
        assert made.answer[0] <= estimate <= made.answer[1]
        assert TAIL / len(estimates) <= made.tail <= TAIL


def test_of_many_true_nulls_one_is_settled_no_more_often_than_one_alone():
    rng = np.random.default_rng(0)
    trials = rng.normal(size=(2000, 20))
    adjusted = [
        any(made.settled for made in step_down([normal(z) for z in row], above_zero, TAIL)) for row in trials
    ]
    careless = [any(above_zero(normal(z)(TAIL)) for z in row) for row in trials]
    assert np.mean(adjusted) < 0.035 < 0.35 < np.mean(careless)
