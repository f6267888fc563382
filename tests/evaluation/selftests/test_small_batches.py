"""A short attack in the smallest batch that a defence answers."""

import pytest

from robustbench_coded.evaluation.selftests.small_batches import small_batches
from tests.evaluation.selftests.conftest import EXAMPLES, Plain


class InBatches(Plain):
    batch_dependent = True


@pytest.mark.parametrize("smallest", [1, 4])
def test_what_is_fragile_in_small_batches_falls_there(world, smallest):
    """Robust in batches of 32 alone; it refuses batches below a size."""

    def answer(x):
        if len(x) < smallest:
            raise ValueError("too few")
        return world.other(x) if len(x) == EXAMPLES else world.model(x)

    found = small_batches(lambda k: world.scene(InBatches(answer), k), EXAMPLES)
    assert (found["k"], found["inputs"]) == (smallest, EXAMPLES)
    assert found["left"] < found["clean"] / 2


def test_a_defence_of_one_batch_size_has_no_smaller_one(world):
    def answer(x):
        if len(x) < EXAMPLES:
            raise ValueError("full batches alone")
        return world.model(x)

    assert small_batches(lambda k: world.scene(InBatches(answer), k), EXAMPLES)["inputs"] == 0
