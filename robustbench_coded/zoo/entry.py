"""One defence of the zoo as plain data; it is built when it is loaded. Needs no torch before that."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from robustbench_coded.defences.protocol import Defence
    from robustbench_coded.zoo.known import Known

EXAMPLES = 640  # five batches of 128
IN_BATCHES = 20 * 128  # of inputs that are answered together: as many outcomes as batches may be all there is


@dataclass(frozen=True)
class ZooEntry:
    """One defence of the zoo.

    Attributes:
        family: what kind of defence it is, or of deceit.
        source: ``module:function`` below ``robustbench_coded.zoo`` that makes the defence, its data and its
            truth.
        broken: whether a fair evaluation of ``batch/unknown`` must not end in ``no failure found``. All
            others are as robust as their truth says and must not be called ``no gain`` or ``broken``.
        description: one line.
        norm, eps: the budget that the truth is for, in pixel units.
        examples: how many there are by default. Where inputs are answered together, the batches count.
    """

    name: str
    family: str
    source: str
    broken: bool
    description: str
    norm: str
    eps: float
    examples: int = EXAMPLES

    def load(self, n: int | None = None) -> Known:
        """The defence with its first ``n`` examples (fewer where it has fewer) and its truth on them."""
        n = n or self.examples
        module, _, function = self.source.partition(":")
        return getattr(importlib.import_module(f"robustbench_coded.zoo.{module}"), function)(
            n=n, eps=self.eps
        )

    def build(self, model: nn.Module | None = None) -> Defence:
        """The defence alone, told of every batch. It brings its own model: ``model`` is not used."""
        from robustbench_coded.defences.per_batch import per_batch

        return per_batch(self.load().defence)


def family(
    name: str,
    *rows: tuple[str, str, bool, str],
    norm: str = "linf",
    eps: float = 0.1,
    examples: int = EXAMPLES,
) -> list[ZooEntry]:
    """Entries of one family and budget, each from its name, source, whether it is broken, and description."""
    return [ZooEntry(row[0], name, row[1], row[2], row[3], norm, eps, examples) for row in rows]
