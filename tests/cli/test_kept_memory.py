"""The memory of tensors is kept for the next ones, unless the user decided on that."""

import ctypes
import os

import pytest

from robustbench_coded.cli import process
from robustbench_coded.cli.process import KEPT, keep_memory


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
    for name in process._MEMORY_BY_THE_USER:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return found


def test_this_process_and_those_it_starts_are_told(library):
    keep_memory()
    assert library.told == {-1: KEPT, -3: KEPT}  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == os.environ["MALLOC_MMAP_THRESHOLD_"] == str(KEPT)


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_environment_says_stays(library, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    keep_memory()
    assert library.told == {} and os.environ[name] == "7"


def test_another_systems_library_is_left_alone(library, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ
