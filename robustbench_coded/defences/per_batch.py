"""Defences with a memory, and defences that adapt to a batch, under one stated protocol.

Before every batch that is answered, ``reset()`` is called, where the defence has it, and then ``fit(x)`` with
the batch, unlabelled, where it has that. So an answer depends on the batch and the draw alone, and every
attacker asks the defence as it stands before its first query. A defence with a memory and no ``reset`` is
answered as it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.defences.answers_as_logits import as_logits
from robustbench_coded.defences.own_copies import own_answer, own_draw, own_input
from robustbench_coded.defences.own_parameters import OwnParameters
from robustbench_coded.defences.protocol import Defence, Draw, reject_class
from robustbench_coded.user_code import UserCode

_CALLS = {"reset": "reset()", "fit": "fit(x)"}


class PerBatch:
    """A user's defence, told of every batch before it answers it; its answers are taken as logits.

    Answers and draws are handed on as copies, for it may use one buffer for all of them; it is given copies
    of inputs, for it may write into them.

    Args:
        defence: what it declares of itself is taken over, and ``logits_grouped`` where it is told nothing.
    """

    def __init__(self, defence: Defence):
        self.defence = defence
        self.user_code = UserCode()
        self.parameters = OwnParameters()
        self.name = defence.name
        self.randomised = defence.randomised
        self.batch_dependent = defence.batch_dependent
        self.base: torch.nn.Module | None = defence.base
        self.abstain: int | None = getattr(defence, "abstain", None)
        self.images = getattr(defence, "images", None)
        grouped = getattr(defence, "logits_grouped", None)
        self.logits_grouped = self._grouped if callable(grouped) and not told_of(defence) else None

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        with self.user_code:
            return own_draw(self.defence.sample(generator, k))

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes], of a defence that has met nothing but this batch."""

        def answer(x: Tensor) -> Tensor:
            begin_batch(self.defence, own_input(x))
            return own_answer(as_logits(self.defence.logits(own_input(x), draw), self.name))

        with self.user_code:
            return self.parameters.answered(answer, x)

    def _grouped(self, x: Tensor, draws: Sequence[Draw]) -> Tensor:
        def answer(x: Tensor) -> Tensor:
            return own_answer(as_logits(self.defence.logits_grouped(own_input(x), draws), self.name))  # type: ignore[attr-defined]

        with self.user_code:
            return self.parameters.answered(answer, x)


def per_batch(defence: Defence) -> Defence:
    """The defence under the protocol; itself where it has neither ``reset`` nor ``fit``."""
    return PerBatch(defence) if told_of(defence) else defence


def told_of(defence: Any) -> list[str]:
    """By which calls a defence is told of a batch before it answers it."""
    return [call for name, call in _CALLS.items() if callable(getattr(defence, name, None))]


def stated_protocol(defence: Defence) -> list[str]:
    """How a defence that is told of batches, or may reject inputs, is asked and counted; a clause each."""
    found = []
    if isinstance(defence, PerBatch):
        if told := told_of(defence.defence):
            found.append(f"is told of every batch before it answers it, by {' and '.join(told)}")
        found += getattr(defence.defence, "out_of_reach", ())
    if (reject := reject_class(defence)) is not None:
        found.append(f"may reject inputs (class {reject}): the answer to the clean input then counts instead")
    return found


def begin_batch(defence: Any, x: Tensor) -> None:
    """Calls ``reset()`` and ``fit(x)``, as far as the defence has them."""
    for name, arguments in (("reset", ()), ("fit", (x,))):
        method = getattr(defence, name, None)
        if callable(method):
            method(*arguments)
