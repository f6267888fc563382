"""Setting the process's own random generators for the length of one call, and putting them back."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


@contextmanager
def seeded_globally(seed: int, *, taken: int = 0) -> Iterator[Callable[[], bool]]:
    """Within it torch's, numpy's and Python's generators start at ``seed``; afterwards they are as before.

    For code that is not ours and samples from them. CUDA's generators are included once CUDA is in use.
    Yields a function that tells whether any number has been drawn since.

    Args:
        seed: from 0 to 2**32 - 1.
        taken: how many numbers are taken from each of them first.
    """
    cuda = torch.cuda.is_initialized()
    before = _states(cuda)
    try:
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)
        random.seed(seed)
        if taken:
            torch.rand(taken), np.random.rand(taken), [random.random() for _ in range(taken)]
            if cuda:
                torch.rand(taken, device="cuda")
        start = _states(cuda)
        yield lambda: not _equal(start, _states(cuda))
    finally:
        torch.set_rng_state(before.torch)
        np.random.set_state(before.numpy)
        random.setstate(before.python)
        if cuda:
            torch.cuda.set_rng_state_all(before.cuda)


class _States(NamedTuple):
    torch: Tensor
    cuda: list[Tensor]
    numpy: Any
    python: Any


def _states(cuda: bool) -> _States:
    on_cuda = torch.cuda.get_rng_state_all() if cuda else []
    return _States(torch.get_rng_state(), on_cuda, np.random.get_state(), random.getstate())


def _equal(one: _States, other: _States) -> bool:
    return (
        torch.equal(one.torch, other.torch)
        and all(torch.equal(a, b) for a, b in zip(one.cuda, other.cuda))
        and all(np.array_equal(a, b) for a, b in zip(one.numpy, other.numpy))
        and one.python == other.python
    )
