from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.judge.outcomes import Cell, accuracy, accuracy_every_draw, accuracy_majority, plurality


def cell_of(prediction, label):
    prediction = np.asarray(prediction, dtype=np.int32)
    ids = np.arange(len(prediction))
    return Cell(ids, ids, np.asarray(label), np.arange(prediction.shape[1]), prediction)


def right(correct):
    return cell_of(np.where(correct, 0, 1), np.zeros(len(correct), int))


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_plurality_is_the_commonest_class_and_of_tied_ones_the_lowest(rows):
    def by_counting(row):
        votes = Counter(row)
        return min(votes, key=lambda label: (-votes[label], label))

    assert plurality(np.array(rows, dtype=np.int32)).tolist() == [by_counting(row) for row in rows]


def test_a_majority_may_be_right_where_most_draws_are_wrong():
    cell = cell_of([[7, 7, 1, 2, 3], [4, 4, 4, 5, 5]], [7, 5])
    assert (accuracy(cell), accuracy_majority(cell), accuracy_every_draw(cell)) == (0.4, 0.5, 0.0)
