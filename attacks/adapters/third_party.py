"""Runs an attack of another package on one batch, whichever package it is."""

import math
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.adapters.view import QueryBudgetExhausted, ThirdPartyView
from attacks.attack_name import AttackName
from attacks.perturbation_budget import PerturbationBudget

# The name under which a package is installed, where it differs.
_DISTRIBUTION = {"autoattack": "pyautoattack"}


class ThirdPartyResult(NamedTuple):
    """Attributes:
    x: perturbed inputs ``[K, C, H, W]``, projected into the perturbation budget where the attack left it.
    verdict: robust accuracy as the package itself reports it; NaN where its query
        budget was used up before it came to one.
    """

    x: Tensor
    verdict: float


def installed(third_party: str) -> bool:
    """Whether the package behind ``torchattacks:`` or ``autoattack:`` can be imported; imports nothing."""
    return third_party == "plugin" or find_spec(_DISTRIBUTION.get(third_party, third_party)) is not None


def run_third_party(
    name: AttackName,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> ThirdPartyResult:
    """Runs a third-party attack on one batch, as its package would.

    The process's random generators are seeded from ``generator`` for the call and restored after it.

    Args:
        name: with ``third_party`` set.
        view: ``[B, C, H, W]`` -> ``[B, classes]`` with a parameter on x's device: an
            ``attacks.adapters.view.ThirdPartyView``, or any other module to run the attack as it comes. Where
            a ThirdPartyView's query budget is used up, the result is what the attack showed it last.
        x: clean inputs ``[K, C, H, W]`` in [0, 1].
        y: true classes ``[K]``.
        budget: in pixel units, the same for every slot; linf, or l2 where the attack supports it.
        generator: on the CPU.

    Raises:
        ValueError: a budget or an option that the package does not support; the package is not installed.
    """
    if name.third_party is None:
        raise ValueError(f"expected an attack of another package, got {name.text}")
    if not installed(name.third_party):
        package = _DISTRIBUTION.get(name.third_party, name.third_party)
        raise ValueError(
            f"expected {package} to be installed for {name.text} (pip install 'csrobust[peers]')"
        )
    if budget.eps_space != "pixel" or budget.eps_scale is not None:
        raise ValueError(
            f"expected eps in pixel units for all inputs, which is what {name.third_party} knows"
        )
    x = x.contiguous()  # packages take views that images stored channels-last do not allow
    adapter: Any = import_module(f"attacks.adapters.{name.third_party}")
    if budget.eps == 0:
        return ThirdPartyResult(x.clone(), _standing(view, x, y))
    verdict: float | None
    try:
        x_adv, verdict = adapter.run(name, view, x, y, budget, generator)
    except QueryBudgetExhausted:
        assert isinstance(view, ThirdPartyView)
        x_adv, verdict = view.shown, math.nan
    x_adv = budget.project(x_adv.detach()[None].to(x), x[None])[0]
    return ThirdPartyResult(x_adv, _standing(view, x_adv, y) if verdict is None else verdict)


@torch.no_grad()
def _standing(view: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    with view.uncounted() if isinstance(view, ThirdPartyView) else nullcontext():
        return float((view(x).argmax(1) == y).float().mean())
