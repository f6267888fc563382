"""Random generators that a module holds as its own, set for the length of one call and put back."""

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

Held = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def held_generators(module: nn.Module) -> list[Held]:
    """The generators among the attributes of a module and of its parts, and among what functions refer to."""
    found: dict[int, Held] = {}
    for part in module.modules():
        for value in (*vars(part).values(), *getattr(part, "held", ())):
            if isinstance(value, Held):
                found.setdefault(id(value), value)
    return list(found.values())


@contextmanager
def seeded(generators: list[Held], seed: int, *, taken: int = 0) -> Iterator[Callable[[], bool]]:
    """Within it the i-th generator starts at ``seed`` + 1 + i; afterwards they are as before.

    Yields a function that tells whether any number has been drawn since.

    Args:
        seed: from 0 to 2**32 - 1.
        taken: how many numbers are taken from each of them first.
    """
    before = [_state(one) for one in generators]
    try:
        for i, one in enumerate(generators):
            _seed(one, (seed + 1 + i) % 2**32, taken)
        start = [_plain(one) for one in generators]
        yield lambda: start != [_plain(one) for one in generators]
    finally:
        for one, state in zip(generators, before, strict=True):
            _restore(one, state)


def _seed(one: Held, seed: int, taken: int) -> None:
    if isinstance(one, torch.Generator):
        one.manual_seed(seed)
        torch.rand(taken, generator=one, device=one.device)
    elif isinstance(one, np.random.Generator):
        one.bit_generator.state = type(one.bit_generator)(seed).state
        one.random(taken)
    elif isinstance(one, np.random.RandomState):
        one.seed(seed)
        one.rand(taken)
    else:
        one.seed(seed)
        for _ in range(taken):
            one.random()


def _state(one: Held) -> Any:
    if isinstance(one, torch.Generator):
        return one.get_state()
    if isinstance(one, np.random.Generator):
        return one.bit_generator.state
    return one.get_state() if isinstance(one, np.random.RandomState) else one.getstate()


def _restore(one: Held, state: Any) -> None:
    if isinstance(one, torch.Generator):
        one.set_state(state)
    elif isinstance(one, np.random.Generator):
        one.bit_generator.state = state
    elif isinstance(one, np.random.RandomState):
        one.set_state(state)
    else:
        one.setstate(state)


def _plain(one: Held) -> bytes:
    """The state as bytes: states hold arrays, which do not compare as a whole."""
    return pickle.dumps(_state(one))
