from hypothesis import given
from hypothesis import strategies as st

from robustbench_coded.evaluation.planning.batches import VICTIMS, partition, victims_batch


@given(st.integers(1, 300), st.integers(1, 64), st.booleans())
def test_every_example_is_scored_exactly_once(examples, k, full):
    batches = partition(examples, k, full=full)
    scored = [member for b in batches for member in b.members[: b.scored]]
    assert sorted(scored) == list(range(examples))
    assert [b.index for b in batches] == list(range(len(batches)))


def test_the_last_batch_is_filled_with_unscored_examples_from_the_beginning():
    last = partition(10, 4)[-1]
    assert last.members == (8, 9, 0, 1)
    assert last.scored == 2


def test_they_repeat_when_there_are_fewer_examples_than_slots():
    assert partition(3, 8)[0].members == (0, 1, 2, 0, 1, 2, 0, 1)


def test_where_inputs_are_answered_one_by_one_the_last_batch_stays_smaller():
    assert partition(10, 4, full=False)[-1].members == (8, 9)


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
