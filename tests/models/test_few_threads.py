"""Small networks are answered by one thread, and nobody else's threads change."""

import pytest
import torch

from robustbench_coded.threads import SMALL, few_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("multiplications", "threads"), [(SMALL - 1, 1), (SMALL, 2)])
def test_one_thread_answers_for_a_small_network_alone(two_threads, multiplications, threads):
    with pytest.raises(KeyError), few_threads(multiplications):
        assert torch.get_num_threads() == threads
        raise KeyError
    assert torch.get_num_threads() == 2
