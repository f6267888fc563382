import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_coded.evaluation.planning.batches import choose_victims, partition


@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from(["pad", "shrink"]))
def test_every_example_is_scored_exactly_once(examples, k, rule):
    batches = partition(examples, k, rule)
    scored = [member for b in batches for member in b.members[: b.scored]]
    assert sorted(scored) == list(range(examples))
    assert [b.index for b in batches] == list(range(len(batches)))


def test_pad_fills_with_unscored_examples_from_the_beginning():
    last = partition(10, 4, "pad")[-1]
    assert last.members == (8, 9, 0, 1)
    assert last.scored == 2


def test_pad_repeats_when_there_are_fewer_examples_than_slots():
    assert partition(3, 8, "pad")[0].members == (0, 1, 2, 0, 1, 2, 0, 1)


def test_shrink_and_drop():
    assert partition(10, 4, "shrink")[-1].members == (8, 9)
    assert [b.members for b in partition(10, 4, "drop")] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_drop_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one full batch, got 3 examples for k=4"):
        partition(3, 4, "drop")


def test_victims_keep_their_slots_and_are_scored_examples():
    batches = partition(100, 32, "pad")
    victims = choose_victims(batches, 40, seed=0)
    assert len(set(victims)) == 40
    assert all(v.slot < batches[v.batch].scored for v in victims)
    assert len(choose_victims(batches, 1000, seed=0)) == 100


def test_victims_come_from_every_part_of_a_batch():
    victims = choose_victims(partition(640, 128), 64, seed=0)
    quarters = {v.slot // 32 for v in victims}
    assert quarters == {0, 1, 2, 3}
    assert {v.batch for v in victims} == {0, 1, 2, 3, 4}
