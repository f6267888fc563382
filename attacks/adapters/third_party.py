"""Runs an attack of another package on one batch: the module that it sees, its random numbers, its result.

A package is imported only when its attack runs.
"""

import inspect
import io
import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.accelerator import random_states_kept
from attacks.attack import TORCHATTACKS_L2, TORCHATTACKS_LINF, Package, number_in
from attacks.oracle import Oracle
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import projected


@contextmanager
def seeded_from(generator: torch.Generator) -> Iterator[int]:
    """Within the block, torch's, numpy's and Python's generators start at a seed drawn from ``generator``.

    Yields the seed, for packages that ask for one. Those of accelerators in use are included.
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    with random_states_kept():
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield seed


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
    own: Callable[..., Any] | None = None,
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
        own: the user's function, ``(view, x, y, eps=)``.

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
    if budget.eps == 0:
        return x.clone()
    with seeded_from(generator) as seed:
        if own is not None:
            result = own(view, x.clone(), y, eps=budget.eps)
        else:
            run = {"torchattacks": run_torchattacks, "autoattack": run_autoattack}[name.package]
            result = run(name, view, x, y, budget, seed)
    return projected(like(name, result, x)[None], x[None], budget)[0]


def like(name: Package, result: Any, x: Tensor) -> Tensor:
    """The result of another's attack, in the shape and type of ``x`` and on its device.

    Raises:
        ValueError: it is no tensor of that shape.
    """
    if not isinstance(result, Tensor) or result.shape != x.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{name}: expected perturbed inputs {tuple(x.shape)}, got {shape}")
    return result.detach().to(x)


def run_torchattacks(
    name: Package, view: torch.nn.Module, x: Tensor, y: Tensor, budget: PerturbationBudget, seed: int
) -> Tensor:
    """The result of torchattacks (arXiv 2010.01950) for one batch.

    Options are the constructor's. A default step size, which the package states for its default eps, is
    scaled to the budget's eps unless the name gives it.

    Raises:
        ValueError: the attack has no such norm or option.
    """
    import torchattacks

    known = {"linf": TORCHATTACKS_LINF, "l2": TORCHATTACKS_L2}.get(budget.norm, ())
    if not known:
        raise ValueError(f"expected norm linf or l2 for torchattacks, got {budget.norm} for {name}")
    if name.algorithm not in known:
        raise ValueError(f"expected one of {', '.join(known)} for {budget.norm}, got {name}")
    attack_class = getattr(torchattacks, name.algorithm)
    parameters = dict(inspect.signature(attack_class.__init__).parameters)
    for fixed in ("self", "model"):
        parameters.pop(fixed)
    settings = _settings(name, parameters, budget)
    with redirect_stdout(io.StringIO()):
        if "seed" in parameters:
            settings["seed"] = seed
        if "n_classes" in parameters:
            with torch.no_grad():
                settings["n_classes"] = view(x).shape[1]
        attack = attack_class(view, **settings)
        attack.set_device(x.device)
        return attack(x.clone(), y)


def _settings(
    name: Package, parameters: dict[str, inspect.Parameter], budget: PerturbationBudget
) -> dict[str, Any]:
    eps_name = "eps" if "eps" in parameters else "max_epsilon"
    settings: dict[str, Any] = {eps_name: budget.eps}
    if "norm" in parameters:
        settings["norm"] = {"linf": "Linf", "l2": "L2"}[budget.norm]
    if "alpha" in parameters:
        settings["alpha"] = parameters["alpha"].default * budget.eps / parameters[eps_name].default
    free = [
        option for option in parameters if option not in (eps_name, "norm", "seed", "n_classes", "verbose")
    ]
    for option, value in name.options:
        if option not in free:
            raise ValueError(f"expected an option out of {', '.join(free)}, got {option} in {name}")
        settings[option] = _typed(value, parameters[option].default, name)
    return settings


def _typed(value: str, default: Any, text: Package) -> Any:
    """``value`` converted to the type of the constructor's default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return number_in(value)
    except (ValueError, KeyError, ZeroDivisionError):
        raise ValueError(f"expected a {type(default).__name__}, got {value!r} in {text}") from None
    return value


DLR_CLASSES = 4
VERSIONS = ("standard", "plus", "rand")

# Constructor options of the attacks inside, by what they are called there.
OPTIONS = ("eot_iter", "n_iter", "n_queries", "n_restarts", "n_target_classes")


def run_autoattack(
    name: Package, view: torch.nn.Module, x: Tensor, y: Tensor, budget: PerturbationBudget, seed: int
) -> Tensor:
    """The result of AutoAttack (arXiv 2003.01690), as packaged by pyautoattack, for one batch.

    The suite counts an example as broken from its first wrong answer on: to the clean input, during an attack
    or after it. Examples that are not broken keep their clean pixels. Targeted attacks get at most as many
    targets as there are wrong classes. Logits of fewer than four classes are padded (`PaddedLogits`).

    Raises:
        ValueError: an option that no attack of the version has.
    """
    from pyautoattack import AutoAttack

    norms = {"linf": "Linf", "l2": "L2", "l1": "L1"}
    if budget.norm not in norms:
        raise ValueError(f"expected norm linf, l2 or l1 for autoattack, got {budget.norm} for {name}")
    norm = norms[budget.norm]
    with _contained(), torch.no_grad():
        classes = view(x).shape[1]
        settings: dict[str, Any] = (
            {"version": name.algorithm}
            if name.algorithm in VERSIONS
            else {"version": "custom", "attacks": [name.algorithm]}
        )
        if classes < DLR_CLASSES:
            view = PaddedLogits(view)
        suite = AutoAttack(view, eps=budget.eps, norm=norm, seed=seed, device=str(x.device), **settings)
        suite.apgd_targeted.n_target_classes = min(suite.apgd_targeted.n_target_classes, classes - 1)
        suite.fab.n_target_classes = min(suite.fab.n_target_classes, classes - 1)
        for option, value in name.options:
            _set(suite, option, value, name)
        x_adv, _ = suite.run_standard_evaluation(x.clone(), y, batch_size=len(x))
    return x_adv


class PaddedLogits(torch.nn.Module):
    """Pads the logits to four classes: the DLR losses divide by the third and fourth logit.

    A padded class has the smallest logit less one, so no input is classified as it.
    """

    def __init__(self, view: torch.nn.Module):
        super().__init__()
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        logits = self.view(x)
        below = logits.detach().amin(1, keepdim=True) - 1
        return torch.cat([logits, below.expand(-1, DLR_CLASSES - logits.shape[1])], dim=1)


def _set(suite: Any, option: str, value: str, text: Package) -> None:
    if option not in OPTIONS or not value.isdecimal() or int(value) < 1:
        raise ValueError(f"expected whole numbers for {', '.join(OPTIONS)}, got {option}={value} in {text}")
    inside = {
        "apgd-ce": suite.apgd,
        "apgd-dlr": suite.apgd,
        "apgd-t": suite.apgd_targeted,
        "fab": suite.fab,
        "fab-t": suite.fab,
        "square": suite.square,
    }
    having = [inside[attack] for attack in suite.attacks_to_run if hasattr(inside[attack], option)]
    if not having:
        raise ValueError(f"expected an option of {', '.join(suite.attacks_to_run)}, got {option} in {text}")
    for attack in having:
        setattr(attack, option, int(value))
        if option == "n_iter" and hasattr(attack, "n_iter_2"):
            # The package computes these from n_iter once, when it builds the attack.
            attack.n_iter_orig = int(value)
            attack.n_iter_2 = max(int(0.22 * int(value)), 1)
            attack.n_iter_min = max(int(0.06 * int(value)), 1)
            attack.size_decr = max(int(0.03 * int(value)), 1)


@contextmanager
def _contained() -> Iterator[None]:
    """Silences the package's warnings, which our reports replace, and restores the trace function.

    One of the package's checks sets the interpreter's trace function and then clears it.
    """
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
        sys.settrace(trace)
