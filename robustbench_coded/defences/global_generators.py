"""Setting the process's own random generators for the length of one call, and putting them back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Within it torch's, numpy's and Python's generators start at ``seed``; afterwards they are as before.

    For code that is not ours and samples from them. CUDA's generators are included once CUDA is in use.

    Args:
        seed: from 0 to 2**32 - 1.
    """
    cuda = torch.cuda.is_initialized()
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    on_cuda = torch.cuda.get_rng_state_all() if cuda else []
    try:
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
        if cuda:
            torch.cuda.set_rng_state_all(on_cuda)
