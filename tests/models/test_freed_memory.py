import sys

import pytest
import torch

from robustbench_coded.models.freed_memory import keep_freed_memory


def tensors():
    return [torch.ones(1 << 20) for _ in range(4)]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc alone is told")
def test_memory_of_tensors_that_are_gone_serves_the_next_ones():
    import resource

    keep_freed_memory()
    for _ in range(20):
        tensors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors()
    # 80 tensors of 4 MB; without it, the system clears thousands of their pages.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 512
