"""AutoAttack (arXiv 2003.01690) as packaged by pyautoattack."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyautoattack import AutoAttack
from torch import Tensor

from attacks.adapters.third_party import seeded_from
from attacks.attack import Package
from attacks.perturbation_budget import PerturbationBudget

DLR_CLASSES = 4
VERSIONS = ("standard", "plus", "rand")

# Constructor options of the attacks inside, by what they are called there.
OPTIONS = ("eot_iter", "n_iter", "n_queries", "n_restarts", "n_target_classes")


def run(
    name: Package,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> Tensor:
    """The suite's result for one batch.

    The suite counts an example as broken from its first wrong answer on: to the clean input, during an attack
    or after it. Examples that are not broken keep their clean pixels. Targeted attacks get at most as many
    targets as there are wrong classes. Logits of fewer than four classes are padded (`PaddedLogits`).

    Raises:
        ValueError: an option that no attack of the version has.
    """
    norms = {"linf": "Linf", "l2": "L2", "l1": "L1"}
    if budget.norm not in norms:
        raise ValueError(f"expected norm linf, l2 or l1 for autoattack, got {budget.norm} for {name}")
    norm = norms[budget.norm]
    with seeded_from(generator) as seed, _contained(), torch.no_grad():
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


def _set(suite: AutoAttack, option: str, value: str, text: Package) -> None:
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
