"""The zoo by name: small defences whose robust accuracy is known. Needs no torch until an entry is loaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from robustbench_coded.defences.protocol import Defence
    from robustbench_coded.zoo.known import Known


EXAMPLES = 640  # five batches of 128


@dataclass(frozen=True)
class ZooEntry:
    """One defence of the zoo.

    Attributes:
        source: ``module:function`` below ``robustbench_coded.zoo`` that makes the defence, its data and its
            truth.
        norm, eps: the budget that the truth is for, in pixel units.
        broken: whether a fair evaluation of ``batch/unknown`` must not end in ``no failure found``. All
            others are as robust as their truth says and must not be called ``no gain`` or ``broken``.
        description: one line.
    """

    name: str
    source: str
    norm: str
    eps: float
    broken: bool
    description: str

    def load(self, n: int = EXAMPLES) -> Known:
        """The defence with its first ``n`` examples and its truth on them."""
        module, _, function = self.source.partition(":")
        return getattr(importlib.import_module(f"robustbench_coded.zoo.{module}"), function)(
            n=n, eps=self.eps
        )

    def build(self, model: nn.Module | None = None) -> Defence:
        """The defence alone. It brings a model of its own, so ``model`` is not used."""
        return self.load().defence


_ENTRIES = (
    ZooEntry("coin-flip", "coin_flip:known", "linf", 0.1, False, "right everywhere, but for a 5% coin: 95%"),
    ZooEntry(
        "noise-wide",
        "noisy_linear:known_wide",
        "linf",
        0.1,
        False,
        "noise before a linear model, wide margins",
    ),
    ZooEntry(
        "median-of-noise", "median_of_noise:known", "linf", 0.1, False, "median score of nine noisy copies"
    ),
    ZooEntry("smoothing", "smoothing:known", "l2", 0.25, False, "Gaussian smoothing with its certificate"),
    ZooEntry("lipschitz", "lipschitz:known", "l2", 0.25, False, "1-Lipschitz network with its certificate"),
    ZooEntry(
        "rci-linear-wide",
        "rci_linear:known_wide",
        "linf",
        0.1,
        False,
        "linear model under RCI, wide margins: 100%",
    ),
    ZooEntry("constant", "constant:known", "linf", 0.1, False, "one class for every input: 30%, and no less"),
    ZooEntry(
        "ensemble-opposed",
        "ensembles:known_opposed",
        "linf",
        0.05,
        False,
        "one of two models; no input fools both: 50%",
    ),
    ZooEntry(
        "sampling-module", "sampling:known", "linf", 0.1, False, "a plain module that samples inside itself"
    ),
    ZooEntry(
        "trained-linear",
        "trained:known_linear",
        "linf",
        0.1,
        False,
        "linear digits model trained on its worst case",
    ),
    ZooEntry(
        "digits-pgd-at", "trained:known_pgd_at", "linf", 0.1, False, "adversarially trained digits network"
    ),
    ZooEntry(
        "noise-narrow",
        "noisy_linear:known_narrow",
        "linf",
        0.1,
        True,
        "noise before a linear model, narrow margins",
    ),
    ZooEntry(
        "rci-linear", "rci_linear:known", "linf", 0.1, True, "linear model under RCI: 70%, as without it"
    ),
    ZooEntry(
        "label-leak", "label_leak:known", "linf", 0.1, True, "answers each input by its neighbour's pixels"
    ),
    ZooEntry(
        "rounding", "masked_gradients:known_rounding", "linf", 0.1, True, "rounded pixels: no gradient at all"
    ),
    ZooEntry(
        "saturated",
        "masked_gradients:known_saturated",
        "linf",
        0.1,
        True,
        "logits so large that no slope is left",
    ),
    ZooEntry(
        "misleading-gradient",
        "masked_gradients:known_misleading",
        "linf",
        0.1,
        True,
        "gradients point the wrong way",
    ),
    ZooEntry(
        "hidden-direction", "hidden_direction:known", "linf", 0.1, True, "weak where no gradient points"
    ),
    ZooEntry(
        "ensemble-decoys",
        "ensembles:known_decoys",
        "linf",
        0.1,
        True,
        "one of eight models, weak on average alone",
    ),
)
ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}
