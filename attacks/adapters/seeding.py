"""Seeds the process's random generators for a package that draws from them, and restores them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_from(generator: torch.Generator) -> Iterator[int]:
    """Within the block, torch's, numpy's and Python's generators start at a seed drawn from ``generator``.

    Yields the seed, for packages that ask for one. CUDA's generators are included once CUDA is in use.
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    cuda = torch.cuda.is_initialized()
    state, cuda_state = torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield seed
    finally:
        torch.set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
