"""Modules that draw their own random numbers, made answerable to explicit draws, and the generators that
they hold.
"""

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attacks.accelerator import process_lock, random_states, seed_accelerators, set_random_states
from robustbench_coded.defences.per_batch import PerBatch, as_logits, begin_batch, own_answer, own_input
from robustbench_coded.defences.protocol import Defence, Draw
from robustbench_coded.errors import InputError
from robustbench_coded.models.in_memory import Held, NetworkInMemory
from robustbench_coded.models.pixel_model import BlockNetwork
from robustbench_coded.user_code import UserCode


class _Source(NamedTuple):
    """How the state of a generator is read and set, and how it is seeded."""

    read: Callable[[], Any]
    put: Callable[[Any], Any]
    seed: Callable[[int], Any]


_GLOBAL = (
    _Source(torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed),
    _Source(random_states, set_random_states, seed_accelerators),
    _Source(np.random.get_state, np.random.set_state, np.random.seed),
    _Source(random.getstate, random.setstate, random.seed),
)


@contextmanager
def seeded_globally(seed: int, held: Sequence[Held] = ()) -> Iterator[Callable[[], bool]]:
    """Within it torch's, numpy's and Python's generators start at ``seed``; afterwards they are as before.

    For code that is not ours and samples from them. Those of accelerators in use are included.
    Yields a function that tells whether any number has been drawn since.

    Args:
        seed: from 0 to 2**32 - 1.
        held: further generators; the i-th one starts at ``seed`` + 1 + i.
    """
    sources = [*_GLOBAL, *map(_source, held)]
    seeds = [seed] * len(_GLOBAL) + [(seed + 1 + i) % 2**32 for i in range(len(held))]
    with process_lock():
        before = [source.read() for source in sources]
        try:
            for source, start in zip(sources, seeds, strict=True):
                source.seed(start)
            first = [_plain(source.read()) for source in sources]
            yield lambda: first != [_plain(source.read()) for source in sources]
        finally:
            for source, state in zip(sources, before, strict=True):
                source.put(state)


def all_seeded(module: nn.Module, seed: int) -> AbstractContextManager[Callable[[], bool]]:
    """The same, with the generators that ``module`` holds."""
    return seeded_globally(seed, held_generators(module))


def held_generators(module: nn.Module) -> list[Held]:
    """The generators among the attributes of a module and of its parts, and among what functions refer to."""
    generators: dict[int, Held] = {}
    for part in module.modules():
        held = part.held if isinstance(part, NetworkInMemory) else ()
        for value in (*vars(part).values(), *held):
            if isinstance(value, Held):
                generators.setdefault(id(value), value)
    return list(generators.values())


def _plain(state: Any) -> Any:
    """A state to compare: those that hold arrays do not compare as a whole."""
    if isinstance(state, list):
        return [_plain(item) for item in state]
    return state.cpu().numpy().tobytes() if isinstance(state, Tensor) else pickle.dumps(state)


def _source(held: Held) -> _Source:
    if isinstance(held, torch.Generator):
        return _Source(held.get_state, held.set_state, held.manual_seed)
    if isinstance(held, random.Random):
        return _Source(held.getstate, held.setstate, held.seed)
    if isinstance(held, np.random.RandomState):
        return _Source(held.get_state, held.set_state, held.seed)
    bits = held.bit_generator
    put = partial(setattr, bits, "state")
    return _Source(lambda: bits.state, put, lambda seed: put(type(bits)(seed).state))


def samples(model: nn.Module, x: Tensor) -> bool:
    """True if ``model`` says that it samples (attribute ``samples``), or does on images x [n, C, H, W]."""
    network = getattr(model, "network", model)
    declared = getattr(network, "samples", None)
    if declared is True or (declared is False and isinstance(network, BlockNetwork)):
        return declared
    with torch.no_grad(), all_seeded(model, 0) as has_sampled:
        model(x)
        return has_sampled()


class SamplingModule:
    """Wraps a module that samples inside ``forward``, from the global generators or from its own attributes.

    A draw is the integer that those generators are seeded with for one answer; they are put back afterwards,
    so the same draw gives the same answer and an attacker may know it.

    What the module declares as attributes (``name``, ``randomised``, ``batch_dependent``, ``base``) is
    believed. Of the rest the worst is assumed, that it is randomised and batch-dependent, until ``settle`` is
    told better. The base is ``model`` unless the module names another, or None.

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
        declared = {key: getattr(module, key, None) for key in ("randomised", "batch_dependent")}
        self.undeclared = tuple(key for key, value in declared.items() if not isinstance(value, bool))
        self.randomised: bool = declared["randomised"] is not False
        self.batch_dependent: bool = declared["batch_dependent"] is not False
        self.has_sampled = False
        self.user_code = UserCode()
        reject = getattr(module, "abstain", None)
        self.abstain: int | None = reject if isinstance(reject, int) else None
        self.identity: Any = getattr(module, "identity", None)  # text, or a part of the network
        own_name = getattr(module, "name", None)
        self.name: str = own_name if isinstance(own_name, str) and own_name else name
        base = getattr(module, "base", model)
        self.base: nn.Module | None = base if isinstance(base, nn.Module) else None

    def settle(self, *, randomised: bool, batch_dependent: bool) -> None:
        """Takes the probe's results for what the module does not declare.

        A module that has drawn a number counts as randomised even where no answer showed it: a coin may
        rarely fall on its other side.
        """
        settled = {"randomised": randomised or self.has_sampled, "batch_dependent": batch_dependent}
        for key in self.undeclared:
            setattr(self, key, settled[key])

    def sample(self, generator: torch.Generator, k: int) -> int | None:
        return int(torch.randint(2**32, (), generator=generator)) if self.randomised else None

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]. A module that is not randomised gets draw None.

        Raises:
            InputError: it draws random numbers all the same. No answer need show it: a coin may rarely fall
                on its other side, and be asked for few inputs alone.
        """
        with self.user_code, all_seeded(self.module, draw or 0) as sampled:
            begin_batch(self.module, own_input(x))
            answers: Tensor = own_answer(as_logits(self.module(own_input(x)), self.name, len(x)))
            self.has_sampled = self.has_sampled or sampled()
        if draw is None and self.has_sampled:
            raise InputError(f"{self.name} draws random numbers and is not randomised; set randomised = True")
        return answers


class WrappedSamplingNetwork:
    """A defence around a network that samples whenever it is asked.

    A draw is the defence's own draw, and the integer that the network's generators are seeded with for one
    answer. The defence's own draws are those that it makes around any other network; all else is the
    defence's, too.

    Args:
        defence: built around ``model``.
        model: pixels -> logits; draws from the global generators or from its own attributes.
    """

    name: str
    batch_dependent: bool
    base: nn.Module | None
    randomised = True
    logits_grouped = None  # an answer must not depend on what is answered beside it

    def __init__(self, defence: Defence, model: nn.Module):
        self.defence, self.model = defence, model

    def __getattr__(self, name: str) -> Any:
        if name == "defence" or name.startswith("__"):  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.defence, name)

    def sample(self, generator: torch.Generator, k: int) -> tuple[Draw, int]:
        own = self.defence.sample(generator, k)
        return own, int(torch.randint(2**32, (), generator=generator))

    def logits(self, x: Tensor, draw: tuple[Draw, int]) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        own, seed = draw
        with all_seeded(self.model, seed):
            return self.defence.logits(x, own)


def around_sampling(defence: Defence, model: nn.Module) -> Defence:
    """The defence with draws that seed ``model`` as well, which it was built around and which samples."""
    if isinstance(defence, SamplingModule):  # its draws seed whatever it asks
        return defence
    if not isinstance(defence, PerBatch):
        return WrappedSamplingNetwork(defence, model)
    around = PerBatch(WrappedSamplingNetwork(defence.defence, model))
    around.user_code = defence.user_code
    return around
