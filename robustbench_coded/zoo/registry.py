"""The zoo by name: small defences whose robust accuracy is known. Needs no torch until an entry is loaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from robustbench_coded.defences.protocol import Defence
    from robustbench_coded.zoo.known import Known


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

    def load(self) -> Known:
        """The defence with its data and its truth."""
        module, _, function = self.source.partition(":")
        return getattr(importlib.import_module(f"robustbench_coded.zoo.{module}"), function)()

    def build(self, model: nn.Module | None = None) -> Defence:
        """The defence alone. It brings a model of its own, so ``model`` is not used."""
        return self.load().defence


_ENTRIES: tuple[ZooEntry, ...] = ()
ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}
