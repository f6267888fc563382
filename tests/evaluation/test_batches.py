import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_coded.evaluation.planning.batches import VICTIMS, partition, victims_batch


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


def test_a_victim_is_the_example_of_its_number_in_a_random_slot_of_its_own_batch():
    batches = [victims_batch(number, 640, 128, seed=0) for number in range(64)]
    assert [batch.members[batch.victim] for batch in batches] == list(range(64))
    assert [batch.index - VICTIMS for batch in batches] == list(range(64))
    assert {batch.victim // 32 for batch in batches} == {0, 1, 2, 3}
    assert all(len(set(batch.members)) == 128 for batch in batches)
    shared = len({*batches[0].members} & {*batches[1].members})
    assert 10 < shared < 45  # of two independent samples of 128 of 640 images 25.6


def test_few_images_fill_a_victims_batch_up_again():
    batch = victims_batch(2, 5, 8, seed=3)
    assert batch.members[batch.victim] == 2 and batch.members.count(2) == 1
    assert victims_batch(0, 1, 4, seed=0).members == (0, 0, 0, 0)
