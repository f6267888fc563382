"""What a defence computed on the way to an answer that has no gradient: scores of the same classes.

An answer put together in Python, from labels or counts, has no graph. But tensors of as many classes that
were computed before it and mostly name the same class are what it was made of: votes of an ensemble, the
logits behind a table. The answer then has the gradient of the mean of those that agree with it at each input.
"""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.graft import graft
from attacks.relaxation.record import Met, Record
from attacks.relaxation.scale import spread_along

KEPT = 1024  # tensors of a forward
# Share of inputs at which a tensor names the answer's class, above that of chance on the way to 1.
AGREEING = 0.45
WITHOUT = "an answer without a gradient"


class Inside:
    """Tensors with a gradient and two axes or more, in the order in which a forward computed them."""

    def __init__(self) -> None:
        self._met: deque[Tensor] = deque(maxlen=KEPT)
        # By id; kept here and not on the tensor, which may outlive this forward's graph.
        self._checked: dict[int, tuple[Tensor, Tensor]] = {}

    def note(self, answer: Any) -> None:
        if isinstance(answer, Tensor) and answer.ndim > 1 and answer.requires_grad:
            self._met.append(answer)

    def behind(self, answer: Tensor, met: Met | None) -> Tensor | None:
        """``answer`` [..., classes] with the gradient of what it was made of; None if that is not found."""
        rows = answer.detach().reshape(-1, answer.shape[-1]).float()
        least = AGREEING + (1 - AGREEING) / max(2, rows.shape[1])
        agreeing = []
        for scores in self._scores(*rows.shape):
            agrees = (scores.argmax(1) == rows.argmax(1)).float()
            if bool(agrees.mean() > least):
                agreeing.append((scores / spread_along(scores, 1), agrees))
        if not agreeing:
            return None
        shown = torch.stack([scores for scores, _ in agreeing])
        agrees = torch.stack([same for _, same in agreeing])
        agrees = torch.where(agrees.any(0), agrees, 1.0)[..., None]
        mean = (shown * agrees).sum(0) / agrees.sum(0)
        soft = (mean * spread_along(rows, 1)).view(answer.shape)
        return graft(answer.detach(), soft.to(answer.dtype), met)

    def returned(self, value: Tensor, record: Record) -> Tensor:
        """The same for scores [inputs, classes] on their way to the answer; itself where they are none."""
        if value.ndim != 2 or value.shape[1] < 2 or not value.is_floating_point() or value.requires_grad:
            return value
        if (checked := self._checked.get(id(value))) is not None:
            return checked[1]
        found = self.behind(value, None) if self._distinct(value) else None
        known = value if found is None else graft(value.detach(), found, record.note(WITHOUT))
        self._checked[id(value)] = (value, known)
        return known

    def _distinct(self, value: Tensor) -> bool:
        """Whether rows name different classes, which those of a constant do not."""
        named = value.argmax(1)
        return len(value) > 1 and bool((named != named[0]).any())

    def _scores(self, n: int, classes: int) -> list[Tensor]:
        """Tensors [n, classes], some joined from answers to parts of the inputs, one after the other."""
        by_rows: dict[int, list[Tensor]] = {}
        for tensor in self._met:
            rows = tensor.numel() // classes
            if tensor.shape[-1] == classes and rows and n % rows == 0 and tensor.is_floating_point():
                by_rows.setdefault(rows, []).append(tensor.reshape(rows, classes).float())
        found = []
        for rows, tensors in by_rows.items():
            parts = n // rows
            each = len(tensors) // parts  # tensors that the answer to one part left
            if each * parts == len(tensors):
                found += [torch.cat(tensors[first::each]) for first in range(each)]
        return found
