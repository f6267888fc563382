"""A defence with state, queried over a sequence of batches in which its state persists.

A sequence takes the place of a batch: it is attacked, scored and committed as one, and is one cluster of
intervals. Attackers who know the network plan a sequence as a whole and submit it once. Attackers who ask
questions are seen: a `Session` lets the defence remember every query, and what it finally submits.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.defences.per_batch import PerBatch, as_logits, own_answer, own_input
from robustbench_coded.defences.protocol import Defence, Draw


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
                answers.append(own_answer(as_logits(state.logits(own_input(part), own), self.name)))
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
        return copy.deepcopy(state, {} if self.base is None else {id(self.base): self.base})

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
