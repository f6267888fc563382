"""Runs an attack of another package on one batch: the module that it sees, its random numbers, its result."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.accelerator import random_states_kept
from attacks.attack import Package
from attacks.oracle import Oracle
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import projected


@contextmanager
def seeded_from(generator: torch.Generator) -> Iterator[int]:
    """Within the block, torch's, numpy's and Python's generators start at a seed drawn from ``generator``.

    Yields the seed, for packages that ask for one. Those of accelerators in use are included.
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with random_states_kept():
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield seed
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


class ThirdPartyView(torch.nn.Module):
    """Answers ``[B, C, H, W]`` with ``[B, classes]``; every call takes a fresh attacker's draw.

    Third-party attacks change the batch: they continue with the examples that are still correct, or pass one
    example many times. If answers depend on co-batched inputs, that attacks a different batch. This view
    therefore keeps the composition. It finds the slot of each input it receives, puts the input there, and
    fills the other slots with the last inputs it received for them (at first the clean ones). Several inputs
    of one slot go into separate batches. A whole batch in its order is taken as it is. Otherwise an input's
    slot is the one with the nearest clean input in the Euclidean norm; if that is further away than the
    budget allows, the nearest in the budget's norm. Inputs of slots with equal clean inputs are assigned in
    order.

    Args:
        oracle: the target, for one batch (G = 1).
        x: the clean batch ``[K, C, H, W]``.
        budget: how far the attack may move an input, pixel units.

    Attributes:
        forwards: images sent through the network so far, including those that fill slots.
        backwards: images differentiated so far.
    """

    def __init__(self, oracle: Oracle, x: Tensor, budget: PerturbationBudget):
        super().__init__()
        # Packages look for the device among the parameters.
        self.anchor = torch.nn.Parameter(x.new_empty(0), requires_grad=False)
        self.forwards = self.backwards = 0
        self._oracle, self._budget = oracle, budget
        self._clean, self._shown = x, x.clone()
        self._calls = 0
        self._first_equal = _first_equal(x)

    def forward(self, x: Tensor) -> Tensor:
        if self._oracle.independent:
            return self._ask(x[None])[0]
        with torch.no_grad():
            rounds, slots = self._places(x.detach())
        answers = self._answer(x, rounds, slots)
        self._shown[slots] = x.detach()
        return answers

    def _answer(self, x: Tensor, rounds: Tensor, slots: Tensor) -> Tensor:
        """Answers inputs that belong into these slots; there are as many batches as rounds."""
        batches = self._shown.repeat(int(rounds.max()) + 1, 1, 1, 1, 1)
        return self._ask(batches.index_put((rounds, slots), x))[rounds, slots]

    def _ask(self, batches: Tensor) -> Tensor:
        self.forwards += self._oracle.images(batches)
        draws = []
        for _ in batches:
            # A target without randomness has one draw, whatever the call.
            draws.append(self._oracle.draws(self._calls if self._oracle.randomised else 0)[0])
            self._calls += 1
        return self._counted(self._oracle.logits(batches, draws), self._oracle.images(batches))

    def _counted(self, logits: Tensor, images: int) -> Tensor:
        """The answer to so many images, whose backward pass will be counted."""
        if logits.requires_grad:
            logits.register_hook(lambda grad: self._count_backward(images))
        return logits

    def _count_backward(self, images: int) -> None:
        self.backwards += images

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For each input the index of its batch (of as many as are needed) and its slot; ``[B]`` each."""
        rows, clean = x.flatten(1), self._clean.flatten(1)
        p = {"linf": torch.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}[self._budget.norm]
        # Packages project with rounding errors of their own. In l0 a distance here counts values.
        eps = self._budget.eps * (x.shape[1] if p == 0 else 1.001) + 1e-6

        def far_from(slots: Tensor) -> Tensor:
            return torch.linalg.vector_norm(rows - clean[slots], ord=p, dim=1) > eps

        in_order = torch.arange(len(clean), device=x.device)
        if len(rows) == len(clean) and not bool(far_from(in_order).any()):
            return torch.zeros_like(in_order), in_order
        nearest = torch.cdist(rows, clean).argmin(1)
        far = far_from(nearest)
        if bool(far.any()):
            nearest[far] = torch.cdist(rows[far], clean, p=p).argmin(1)
        equal = self._first_equal[nearest].tolist()
        members: dict[int, list[int]] = {}
        for slot, first in enumerate(self._first_equal.tolist()):
            members.setdefault(first, []).append(slot)
        shown: dict[int, int] = dict.fromkeys(members, 0)
        rounds, slots = [], []
        for first in equal:
            turn, place = divmod(shown[first], len(members[first]))
            rounds.append(turn)
            slots.append(members[first][place])
            shown[first] += 1
        return torch.tensor(rounds, device=x.device), torch.tensor(slots, device=x.device)


def _first_equal(x: Tensor) -> Tensor:
    """For each input the first one that equals it, ``[K]``: padding repeats inputs."""
    _, group = torch.unique(x.flatten(1), dim=0, return_inverse=True)
    return (group[:, None] == group[None, :]).int().argmax(1)


# The name under which a package is installed, where it differs.
DISTRIBUTION = {"autoattack": "pyautoattack"}


def installed(third_party: str) -> bool:
    """True if the package behind ``torchattacks:`` or ``autoattack:`` can be imported; imports nothing."""
    return third_party == "plugin" or find_spec(DISTRIBUTION.get(third_party, third_party)) is not None


def run_third_party(
    name: Package,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> Tensor:
    """Runs a third-party attack on one batch, as its package would.

    The process's random generators are seeded from ``generator`` for the call and restored after it.

    Args:
        name: of ``torchattacks`` or ``autoattack``, or a user's function.
        view: ``[B, C, H, W]`` -> ``[B, classes]`` with a parameter on x's device: a `ThirdPartyView`, or any
            other module to run the attack as it comes.
        x: clean inputs ``[K, C, H, W]`` in [0, 1].
        y: true classes ``[K]``.
        budget: in pixel units, the same for every slot; linf, or l2 where the attack supports it.
        generator: on the CPU.

    Returns:
        perturbed inputs ``[K, C, H, W]``, projected into the perturbation budget where the attack left it;
        NaN where they are not finite.

    Raises:
        ValueError: a budget or an option that the package does not support; the package is not installed; the
            result is not a tensor like ``x``.
    """
    if not installed(name.package):
        package = DISTRIBUTION.get(name.package, name.package)
        raise ValueError(f"expected {package} to be installed for {name} (pip install {package})")
    if budget.eps_space != "pixel" or budget.eps_scale is not None:
        raise ValueError(f"expected eps in pixel units for all inputs, which is what {name.package} knows")
    x = x.contiguous()  # packages take views that images stored channels-last do not allow
    adapter: Any = import_module(f"attacks.adapters.{name.package}")
    if budget.eps == 0:
        return x.clone()
    x_adv = adapter.run(name, view, x, y, budget, generator)
    return projected(like(name, x_adv, x)[None], x[None], budget)[0]


def like(name: Package, result: Any, x: Tensor) -> Tensor:
    """The result of another's attack, in the shape and type of ``x`` and on its device.

    Raises:
        ValueError: it is no tensor of that shape.
    """
    if not isinstance(result, Tensor) or result.shape != x.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{name}: expected perturbed inputs {tuple(x.shape)}, got {shape}")
    return result.detach().to(x)
