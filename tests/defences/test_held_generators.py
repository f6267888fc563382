"""Modules that draw from generators of their own, which a draw sets as it sets the global ones."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.defences.sampling import SamplingModule, held_generators

X = torch.rand(2, 1, 2, 2)


class Noisy(nn.Module):
    """Adds a number from a generator that a part of it holds."""

    def __init__(self, generator):
        super().__init__()
        self.inner = nn.Flatten()
        self.inner.source = generator

    def forward(self, x):
        source = self.inner.source
        match source:
            case torch.Generator():
                number = torch.rand((), generator=source)
            case np.random.RandomState():
                number = source.rand()
            case _:  # numpy's newer generator, or Python's
                number = source.random()
        return x.flatten(1) + number


@pytest.fixture(
    params=[torch.Generator, np.random.default_rng, np.random.RandomState, random.Random],
    ids=["torch", "numpy", "numpy-old", "python"],
)
def module(request):
    return Noisy(request.param())


def test_a_draw_sets_a_generator_that_the_module_holds(module):
    defence = SamplingModule(module, name="noisy")
    first = defence.logits(X, 3)
    assert not torch.equal(first, defence.logits(X, 4))
    assert torch.equal(first, defence.logits(X, 3))
    assert defence.has_sampled
    defence.settle(randomised=False, batch_dependent=False)
    assert defence.randomised


def test_it_is_left_as_it_was(module):
    before = module(X)
    other = module(X)
    assert not torch.equal(before, other)
    (held,) = held_generators(module)
    torch.manual_seed(0)
    state = held.__reduce__() if not isinstance(held, torch.Generator) else held.get_state().tolist()
    SamplingModule(module, name="noisy").logits(X, 3)
    after = held.__reduce__() if not isinstance(held, torch.Generator) else held.get_state().tolist()
    assert repr(state) == repr(after)


def test_its_numbers_are_not_those_of_the_global_generator():
    class Both(Noisy):
        def forward(self, x):
            return super().forward(0 * x) - torch.rand(())

    assert SamplingModule(Both(torch.Generator()), name="both").logits(X, 3).abs().min() > 1e-3
