"""One thread for small networks; the memory of tensors is kept, unless the user decided on that."""

import ctypes
import os

import pytest
import torch

from robustbench_coded import threads
from robustbench_coded.threads import RETAINED, SMALL, few_threads, keep_memory, subnormals_flushed


class GnuLibrary:
    """Notes what it is told."""

    def __init__(self):
        self.told = {}

    def mallopt(self, option, value):
        self.told[option] = value


@pytest.fixture
def library(monkeypatch):
    found = GnuLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
    for name in threads._MEMORY_BY_THE_USER:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return found


def test_this_process_and_those_it_starts_are_told(library):
    keep_memory()
    assert library.told == {-1: RETAINED, -3: RETAINED}  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == os.environ["MALLOC_MMAP_THRESHOLD_"] == str(RETAINED)


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_environment_says_stays(library, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    keep_memory()
    assert library.told == {} and os.environ[name] == "7"


def test_another_systems_library_is_left_alone(library, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


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


def subnormal_products():
    """Shares of subnormal numbers that a sum of torch's and a convolution of oneDNN's leave."""
    tiny = torch.full((64, 16, 32, 32), 1e-20)
    sums = torch.full((1 << 20,), 1e-40) * torch.ones(1 << 20)
    convolved = torch.nn.functional.conv2d(tiny, torch.full((16, 16, 3, 3), 1e-20))
    return [float((values != 0).float().mean()) for values in (sums, convolved)]


def test_subnormal_numbers_are_flushed_on_every_thread_and_come_back(two_threads):
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush them")
    assert subnormal_products() == [1, 1]  # OpenMP's threads are there before
    with pytest.raises(KeyError), subnormals_flushed():
        assert subnormal_products() == [0, 0]
        with subnormals_flushed():
            pass
        assert subnormal_products() == [0, 0]
        raise KeyError
    assert subnormal_products() == [1, 1]
