"""A user's defence under the protocol: memories and fits by batch, copies of what it writes into, finite
logits.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.defences.protocol import Defence, Draw, reject_class
from robustbench_coded.errors import InputError
from robustbench_coded.models.in_memory import logits_of, own_copy, with_images
from robustbench_coded.user_code import UserCode

# How far below the smallest finite logit of an input a class is put that was given no chance at all.
BELOW = 1.0


def as_logits(answer: Any, of: str = "it", inputs: int = 0) -> Any:
    """Votes in integers become floats, classes that are ruled out get a finite logit; both keep the class.

    A logit of -inf (the logarithm of no votes, a masked class) says that the class is not the answer. It is
    replaced by BELOW less than the smallest finite logit of the input. Inputs with NaN or +inf, or with
    nothing finite, have no answer and are left as they are.

    Args:
        answer: [..., classes], or what has such a tensor in it (`logits_of`); anything else is returned as it
            is.
        of: the name of who answers.
        inputs: how many it was asked about (`with_images`).
    """
    answer = with_images(logits_of(answer, of), inputs)
    if not isinstance(answer, Tensor):
        return answer
    if answer.ndim > 1 and not answer.is_floating_point() and not answer.is_complex():
        return answer.to(torch.float32)
    if not answer.is_floating_point():
        return answer
    with torch._C.DisableTorchFunction():  # no operator of the defence's, and not relaxed as one
        return _finite(answer)


def changed_by(first: Tensor, second: Tensor) -> float:
    """The largest absolute change of any element; NaN or infinite both times is none, once is infinite."""
    if first.shape != second.shape:
        return torch.inf
    if not first.numel():
        return 0.0
    if first.dtype == torch.bool:
        first, second = first.float(), second.float()
    same = (first == second) | ~(first.isfinite() | second.isfinite())
    return float(torch.where(same, 0, second - first).abs().nan_to_num(nan=torch.inf).max())


def _finite(answer: Tensor) -> Tensor:
    values = answer.detach()
    ruled_out = values == -torch.inf
    if answer.device.type == "cpu" and not bool(ruled_out.any()):  # elsewhere the host would wait
        return answer
    finite = values.isfinite()
    lowest = values.masked_fill(~finite, torch.inf).amin(-1, keepdim=True)
    usable = (finite | ruled_out).all(-1, keepdim=True) & finite.any(-1, keepdim=True)
    return torch.where(ruled_out & usable, lowest - BELOW, answer)


# Copies of what user code is given and returns: it may write into both.
#
# A defence that writes every answer into the same tensor (as graphs that are captured once do), or every draw
# into the same array, is right for a caller that looks at one at a time. A caller that keeps two has the
# later one twice.


def own_answer(answer: Any) -> Any:
    """A copy of a tensor, through which gradients pass; anything else as it is."""
    if not isinstance(answer, Tensor):
        return answer
    with torch._C.DisableTorchFunction():  # no operator of the defence's, and not relaxed as one
        return answer.clone()


def own_input(x: Tensor) -> Tensor:
    """A copy for the defence to write into, which a leaf of autograd does not allow."""
    with torch._C.DisableTorchFunction():
        return x.clone()


def own_draw(draw: Any) -> Any:
    """A draw whose tensors and arrays are copies, also inside lists, tuples and dictionaries."""
    if isinstance(draw, Tensor):
        return draw.clone()
    if isinstance(draw, np.ndarray | bytearray):
        return draw.copy()
    if isinstance(draw, tuple) and hasattr(draw, "_fields"):
        return type(draw)(*map(own_draw, draw))
    if type(draw) in (list, tuple):
        return type(draw)(map(own_draw, draw))
    if type(draw) is dict:
        return {key: own_draw(value) for key, value in draw.items()}
    return draw


# Defences with a memory, and defences that adapt to a batch, under one stated protocol.
#
# Before every batch that is answered, ``reset()`` is called, where the defence has it, and then ``fit(x)``
# with the batch, unlabelled, where it has that. So an answer depends on the batch and the draw alone, and
# every attacker asks the defence as it stands before its first query. A defence with a memory and no
# ``reset`` is answered as it is.


_CALLS = {"reset": "reset()", "fit": "fit(x)"}


class PerBatch:
    """A user's defence, which sees every batch before its queries; its outputs are taken as logits.

    Answers and draws are handed on as copies, for it may use one buffer for all of them; it is given copies
    of inputs, for it may write into them.

    Args:
        defence: what it declares of itself is taken over, and ``logits_grouped`` where it is told nothing.
    """

    def __init__(self, defence: Defence):
        self.defence = defence
        self.user_code = UserCode()
        self.name = defence.name
        self.randomised = defence.randomised
        self.batch_dependent = defence.batch_dependent
        self.base: torch.nn.Module | None = defence.base
        self.abstain: int | None = getattr(defence, "abstain", None)
        self.identity: Any = getattr(defence, "identity", None)
        self.images = getattr(defence, "images", None)
        grouped = getattr(defence, "logits_grouped", None)
        self.logits_grouped = self._grouped if callable(grouped) and not announcements_of(defence) else None

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        with self.user_code:
            return own_draw(self.defence.sample(generator, k))

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes], of a defence that has seen nothing but this batch."""

        with self.user_code:
            begin_batch(self.defence, own_input(x))
            return own_answer(as_logits(self.defence.logits(own_input(x), draw), self.name, len(x)))

    def _grouped(self, x: Tensor, draws: Sequence[Draw]) -> Tensor:
        with self.user_code:
            return own_answer(as_logits(self.defence.logits_grouped(own_input(x), draws), self.name))  # type: ignore[attr-defined]


def per_batch(defence: Defence) -> Defence:
    """The defence under the protocol; itself where it has neither ``reset`` nor ``fit``."""
    return PerBatch(defence) if announcements_of(defence) else defence


def announcements_of(defence: Any) -> list[str]:
    """The calls that announce a batch to a defence before it answers."""
    return [call for name, call in _CALLS.items() if callable(getattr(defence, name, None))]


def stated_protocol(defence: Defence) -> list[str]:
    """How a defence that sees batches first, or may reject inputs, is queried and scored; a clause each."""
    notes = []
    if isinstance(defence, PerBatch):
        if methods := announcements_of(defence.defence):
            notes.append(f"is told of every batch before it answers it, by {' and '.join(methods)}")
        notes += getattr(defence.defence, "out_of_reach", ())
    if (reject := reject_class(defence)) is not None:
        notes.append(f"may reject inputs (class {reject}): the answer to the clean input then counts instead")
    return notes


def begin_batch(defence: Any, x: Tensor) -> None:
    """Calls ``reset()`` and ``fit(x)``, as far as the defence has them."""
    for name, arguments in (("reset", ()), ("fit", (x,))):
        method = getattr(defence, name, None)
        if callable(method):
            method(*arguments)


class KeptMemory(PerBatch):
    """A defence that remembers, as one that answers whole sequences, each from an empty memory.

    Args:
        wrapped: the defence that is queried batch by batch, after a ``reset()`` each.
        k: inputs in each batch of the sequence. The last batch may be smaller.
    """

    def __init__(self, wrapped: PerBatch, k: int):
        super().__init__(wrapped.defence)
        self.name, self.user_code, self.k = wrapped.name, wrapped.user_code, k
        self.batch_dependent, self.logits_grouped, self.images = True, None, self._images

    def _images(self, k: int) -> int:
        per_batch = getattr(self.defence, "images", None) or (lambda size: size)
        return sum(per_batch(size) for size in self._sizes(k))

    def _sizes(self, k: int) -> list[int]:
        return [min(self.k, k - start) for start in range(0, k, self.k)]

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        """A draw for each batch of the sequence; None for a deterministic defence."""
        if not self.randomised:
            return None
        return [super(KeptMemory, self).sample(generator, size) for size in self._sizes(k)]

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """[k, C, H, W] in [0, 1], the batches in their order -> [k, classes]."""
        with self.user_code:
            self.defence.reset()  # type: ignore[attr-defined]
        return self.goes_on(self.defence, x, draw)

    def goes_on(self, state: Defence, x: Tensor, draw: Draw) -> Tensor:
        """The answers of ``state``, which remembers what it was asked before, and then ``x``, too."""
        answers = []
        with self.user_code:
            for place, part in enumerate(x.split(self.k)):
                if callable(fit := getattr(state, "fit", None)):
                    fit(own_input(part))
                own = None if draw is None else draw[place]
                answer = as_logits(state.logits(own_input(part), own), self.name, len(part))
                answers.append(own_answer(answer))
        return torch.cat(answers)


class Session:
    """All queries of one attacker to a defence that remembers them, and then what the attack submits.

    A deterministic defence has answered a submitted input already where the attack asked about it: that
    answer counts. Anything else is asked once more, after all queries, on draws of its own.
    """

    batch_dependent = False  # an attacker moves on by the answer to each input

    def __init__(self, memory: KeptMemory):
        self.emptied = memory
        self.name, self.randomised, self.base = memory.name, memory.randomised, memory.base
        self.abstain, self.images, self.sample = memory.abstain, memory.images, memory.sample
        self._answered: dict[bytes, Tensor] = {}
        with memory.user_code:
            memory.defence.reset()  # type: ignore[attr-defined]  # its state may hang on a graph, which has no copy
        self._state = self._copy(memory.defence)

    def _copy(self, state: Any) -> Any:
        """With its memory and around the same network."""
        copied = own_copy(state, () if self.base is None else self.base.modules())
        if copied is None:
            raise InputError(
                f"{self.name}: its memory can't be copied, or the copy refers to the original; let functions"
                " take self as an argument, not from a closure"
            )
        return copied

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """A query [k, C, H, W] -> [k, classes], which is remembered."""
        answers = self.emptied.goes_on(self._state, x, draw)
        for query, answer in zip(_bytes(x), answers.detach(), strict=True):
            self._answered.setdefault(query, answer)
        return answers

    def scored(self) -> "Session":
        """The defence as it answers what the attack submits; each answer follows the queries alone."""
        view = copy.copy(self)
        view.logits, view.batch_dependent = self._submitted, True  # type: ignore[method-assign]
        return view

    def _submitted(self, x: Tensor, draw: Draw) -> Tensor:
        answers = [None if self.randomised else self._answered.get(query) for query in _bytes(x)]
        new = [place for place, answer in enumerate(answers) if answer is None]
        if new:
            logits = self.emptied.goes_on(self._copy(self._state), x[new], draw)
            for place, answer in zip(new, logits, strict=True):
                answers[place] = answer
        return torch.stack([answer for answer in answers if answer is not None])


def _bytes(x: Tensor) -> list[bytes]:
    return [row.tobytes() for row in x.detach().cpu().numpy()]
