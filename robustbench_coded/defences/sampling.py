"""Modules that draw their own random numbers, made answerable to explicit draws, and the generators that
they hold.
"""

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attacks.accelerator import random_states, seed_accelerators, set_random_states
from robustbench_coded.defences.per_batch import as_logits, begin_batch, own_answer, own_input
from robustbench_coded.models.pixel_model import BlockNetwork
from robustbench_coded.user_code import UserCode


@contextmanager
def seeded_globally(seed: int) -> Iterator[Callable[[], bool]]:
    """Within it torch's, numpy's and Python's generators start at ``seed``; afterwards they are as before.

    For code that is not ours and samples from them. Those of accelerators in use are included.
    Yields a function that tells whether any number has been drawn since.

    Args:
        seed: from 0 to 2**32 - 1.
    """
    before = _states()
    try:
        torch.default_generator.manual_seed(seed)
        seed_accelerators(seed)
        np.random.seed(seed)
        random.seed(seed)
        start = _states()
        yield lambda: not _equal(start, _states())
    finally:
        torch.set_rng_state(before.torch)
        np.random.set_state(before.numpy)
        random.setstate(before.python)
        set_random_states(before.accelerators)


class _States(NamedTuple):
    torch: Tensor
    accelerators: list[Tensor]
    numpy: Any
    python: Any


def _states() -> _States:
    return _States(torch.get_rng_state(), random_states(), np.random.get_state(), random.getstate())


def _equal(one: _States, other: _States) -> bool:
    return (
        torch.equal(one.torch, other.torch)
        and all(torch.equal(a, b) for a, b in zip(one.accelerators, other.accelerators))
        and all(np.array_equal(a, b) for a, b in zip(one.numpy, other.numpy))
        and one.python == other.python
    )


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
def seeded(generators: list[Held], seed: int) -> Iterator[Callable[[], bool]]:
    """Within it the i-th generator starts at ``seed`` + 1 + i; afterwards they are as before.

    Yields a function that tells whether any number has been drawn since.

    Args:
        seed: from 0 to 2**32 - 1.
    """
    accesses = [_access(one) for one in generators]
    before = [read() for read, _ in accesses]

    def plain() -> list[bytes]:  # states hold arrays, which do not compare as a whole
        return [pickle.dumps(read()) for read, _ in accesses]

    try:
        for i, one in enumerate(generators):
            _seed(one, (seed + 1 + i) % 2**32)
        start = plain()
        yield lambda: start != plain()
    finally:
        for (_, put), state in zip(accesses, before, strict=True):
            put(state)


def _seed(one: Held, seed: int) -> None:
    if isinstance(one, torch.Generator):
        one.manual_seed(seed)
    elif isinstance(one, np.random.Generator):
        one.bit_generator.state = type(one.bit_generator)(seed).state
    else:
        one.seed(seed)


def _access(one: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """How its state is read, and set."""
    if isinstance(one, np.random.Generator):
        bits = one.bit_generator
        return (lambda: bits.state), partial(setattr, bits, "state")
    if isinstance(one, random.Random):
        return one.getstate, one.setstate
    return one.get_state, one.set_state


def samples(model: nn.Module, x: Tensor) -> bool:
    """Whether ``model`` says that it samples (attribute ``samples``), or does on images x [n, C, H, W]."""
    network = getattr(model, "network", model)
    said = getattr(network, "samples", None)
    if said is True or (said is False and isinstance(network, BlockNetwork)):
        return said
    with torch.no_grad(), seeded_globally(0) as has_sampled:
        model(x)
        return has_sampled()


def _same_network(part: nn.Module, model: nn.Module | None) -> bool:
    """Whether a part is the model, or a copy with its weights, whose normalisation may be another."""
    if part is model or model is None or type(part) is not type(model):
        return part is model
    theirs, ours = dict(part.named_parameters()), dict(model.named_parameters())
    return bool(ours) and theirs.keys() == ours.keys() and all(ours[n].equal(w) for n, w in theirs.items())


class SamplingModule:
    """Wraps a module that samples inside ``forward``, from the global generators or from its own attributes.

    A draw is the integer that those generators are seeded with for one answer; they are put back afterwards,
    so the same draw gives the same answer and an attacker may know it.

    What the module declares as attributes (``name``, ``randomised``, ``batch_dependent``, ``base``) is
    believed. Of the rest the worst is assumed, that it is randomised and batch-dependent, until ``settle`` is
    told better. The base is ``model`` where the module holds it, or a copy with its weights, else None.

    Attributes:
        undeclared: those of ``randomised`` and ``batch_dependent`` that the module leaves open.
        has_sampled: whether it has drawn any random number so far.

    Args:
        module: [k, C, H, W] in [0, 1] -> [k, classes].
        model: the model that the module was built around.
        name: the defence's name unless the module has one.
    """

    def __init__(self, module: nn.Module, model: nn.Module | None = None, *, name: str):
        self.module = module
        said = {key: getattr(module, key, None) for key in ("randomised", "batch_dependent")}
        self.undeclared = tuple(key for key, value in said.items() if not isinstance(value, bool))
        self.randomised: bool = said["randomised"] is not False
        self.batch_dependent: bool = said["batch_dependent"] is not False
        self.has_sampled = False
        self.user_code = UserCode()
        reject = getattr(module, "abstain", None)
        self.abstain: int | None = reject if isinstance(reject, int) else None
        own_name = getattr(module, "name", None)
        self.name: str = own_name if isinstance(own_name, str) and own_name else name
        holds_model = any(_same_network(part, model) for part in module.modules())
        base = getattr(module, "base", model if holds_model else None)
        self.base: nn.Module | None = base if isinstance(base, nn.Module) else None

    def settle(self, *, randomised: bool, batch_dependent: bool) -> None:
        """Takes what a probe found for what the module does not declare.

        A module that has drawn a number counts as randomised even where no answer showed it: a coin may
        rarely fall on its other side.
        """
        found = {"randomised": randomised or self.has_sampled, "batch_dependent": batch_dependent}
        for key in self.undeclared:
            setattr(self, key, found[key])

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**32, (), generator=generator))

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]. A module that is not randomised gets draw None."""
        seed, own = draw or 0, held_generators(self.module)
        with self.user_code, seeded_globally(seed) as sampled, seeded(own, seed) as own_sampled:
            begin_batch(self.module, own_input(x))
            answers: Tensor = own_answer(as_logits(self.module(own_input(x)), self.name))
            self.has_sampled = self.has_sampled or sampled() or own_sampled()
        return answers
