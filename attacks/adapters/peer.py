"""What running another package's attack needs and gives, whichever package it is."""

import math
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.adapters.view import PeerView, Spent
from attacks.budget import Budget
from attacks.naming import AttackName

# What the package is called where it is installed from, where that differs.
_DISTRIBUTION = {"autoattack": "pyautoattack"}


class PeerResult(NamedTuple):
    """Attributes:
    x: perturbed inputs ``[K, C, H, W]``, moved into the budget where the peer left it.
    verdict: the share of examples that stand, by the peer's own account; NaN where its images were spent
        before it came to one.
    """

    x: Tensor
    verdict: float


def installed(peer: str) -> bool:
    """Whether the package behind ``torchattacks:`` or ``autoattack:`` can be imported; imports nothing."""
    return find_spec(_DISTRIBUTION.get(peer, peer)) is not None


def run_peer(
    name: AttackName, view: torch.nn.Module, x: Tensor, y: Tensor, budget: Budget, generator: torch.Generator
) -> PeerResult:
    """Runs a peer's attack on one batch, as its package would.

    The process's random generators are set from ``generator`` for the call and put back after it.

    Args:
        name: with ``peer`` set.
        view: ``[B, C, H, W]`` -> ``[B, classes]`` with a parameter on x's device: an
            ``attacks.adapters.view.PeerView``, or any other module to run the attack as it comes. Where a
            PeerView's images are spent, the result is what the peer showed it last.
        x: clean inputs ``[K, C, H, W]`` in [0, 1].
        y: true classes ``[K]``.
        budget: in pixel units, the same for every slot; linf, or l2 where the peer's attack knows it.
        generator: on the CPU.

    Raises:
        ValueError: a budget or an option that the peer does not know; the package is not installed.
    """
    if name.peer is None:
        raise ValueError(f"expected an attack of another package, got {name.text}")
    if not installed(name.peer):
        package = _DISTRIBUTION.get(name.peer, name.peer)
        raise ValueError(
            f"expected {package} to be installed for {name.text} (pip install 'csrobust[peers]')"
        )
    if budget.eps_space != "pixel" or budget.reach is not None:
        raise ValueError(f"expected eps in pixel units for all inputs, which is what {name.peer} knows")
    x = x.contiguous()  # peers take views that images stored channels-last do not allow
    adapter: Any = import_module(f"attacks.adapters.{name.peer}")
    if budget.eps == 0:
        return PeerResult(x.clone(), _standing(view, x, y))
    verdict: float | None
    try:
        x_adv, verdict = adapter.run(name, view, x, y, budget, generator)
    except Spent:
        assert isinstance(view, PeerView)
        x_adv, verdict = view.shown, math.nan
    x_adv = budget.project(x_adv.detach()[None].to(x), x[None])[0]
    return PeerResult(x_adv, _standing(view, x_adv, y) if verdict is None else verdict)


@torch.no_grad()
def _standing(view: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    with view.uncounted() if isinstance(view, PeerView) else nullcontext():
        return float((view(x).argmax(1) == y).float().mean())
