import gc
import os
import sys
from pathlib import Path

import pytest
import torch

from robustbench_coded.threads import keep_freed_memory, no_collections

MIB = 1 << 20


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc alone is told")
def test_the_process_keeps_the_memory_of_tensors_that_are_gone():
    keep_freed_memory()
    tensors = [torch.ones(MIB) for _ in range(32)]  # 4 MiB each
    held = resident()
    del tensors
    assert held - resident() < 32 * MIB


def test_collections_stop_for_a_while():
    with pytest.raises(ZeroDivisionError), no_collections():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
