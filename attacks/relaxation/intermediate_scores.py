"""What a defence computed on the way to an answer that has no gradient: scores of the same classes.

An answer put together in Python, from labels or counts, has no graph. But tensors of as many classes that
were computed before it and mostly name the same class are what it was made of: votes of an ensemble, the
logits behind a table. The answer then has the gradient of the mean of those that agree with it at each input.

So has an answer whose own gradient does not lead back through them: where its margin should rise with the
score of the class that both name, and does not, what lies between has lost the way (a projection onto the
simplex of scores far apart, ranks, sets of labels).
"""

from collections import deque
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad as gradients_of  # whatever stands in for it while a defence runs

from attacks.relaxation.record import Met, Record
from attacks.relaxation.surrogate_gradients import spread_along, straight_through

KEPT = 1024  # tensors of a forward
# Share of inputs at which a tensor names the answer's class, above that of chance on the way to 1.
AGREEING = 0.45
WITHOUT = "the answer itself"  # it was made in Python, or of labels: nothing differentiable leads to it
ASTRAY = "an answer that does not follow its scores"
CANDIDATES = 8  # that are looked at where an answer does not
FOLLOWING = 0.5  # cosine between the slope of an answer's margin in its scores, and that of their own margin


class IntermediateScores:
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
        agreeing = self._agreeing(answer)
        return _made_of([_joined(parts, answer) for parts in agreeing], answer, met) if agreeing else None

    def mended(self, answer: Tensor, record: Record) -> Tensor:
        """``answer`` [..., classes]; where its slope in its scores is not theirs, as ``behind`` has it."""
        if answer.shape[-1] < 2 or not (agreeing := self._agreeing(answer)):
            return answer
        first = agreeing[0]
        try:
            astray = ~_follows(answer, first) & _agree(_joined(first, answer), answer)
            if not bool(astray.any()):
                return answer
            # What comes after the operator that has lost the way has lost it, too.
            some = agreeing[:CANDIDATES]
            sound = [parts for parts in some if bool(_follows(_joined(parts, answer), first).all())]
        except RuntimeError:  # a graph that is gone through as a whole or not at all
            return answer
        made_of = [_joined(parts, answer) for parts in sound or [first]]
        behind = _made_of(made_of, answer, record.note(ASTRAY))
        return torch.where(astray.view(*answer.shape[:-1], 1), behind, answer)

    def returned(self, value: Tensor, record: Record) -> Tensor:
        """The same for scores [inputs, classes] on their way to the answer; itself where they are none."""
        if value.ndim != 2 or value.shape[1] < 2 or not value.is_floating_point() or value.requires_grad:
            return value
        if (checked := self._checked.get(id(value))) is not None:
            return checked[1]
        found = self.behind(value, None) if self._distinct(value) else None
        known = value if found is None else straight_through(value.detach(), found, record.note(WITHOUT))
        self._checked[id(value)] = (value, known)
        return known

    def _distinct(self, value: Tensor) -> bool:
        """Whether rows name different classes, which those of a constant do not."""
        named = value.argmax(1)
        return len(value) > 1 and bool((named != named[0]).any())

    def _agreeing(self, answer: Tensor) -> list[list[Tensor]]:
        """Those of ``_parts`` that mostly name the class of the answer [..., classes]."""
        n, classes = answer.numel() // answer.shape[-1], answer.shape[-1]
        least = AGREEING + (1 - AGREEING) / max(2, classes)
        return [
            parts
            for parts in self._parts(n, classes)
            if bool(_agree(_joined(parts, answer), answer).float().mean() > least)
        ]

    def _parts(self, n: int, classes: int) -> list[list[Tensor]]:
        """Tensors as they were met, of as many classes and, in each list together, of n inputs."""
        by_rows: dict[int, list[Tensor]] = {}
        for tensor in self._met:
            rows = tensor.numel() // classes
            if tensor.shape[-1] == classes and rows and n % rows == 0 and tensor.is_floating_point():
                by_rows.setdefault(rows, []).append(tensor)
        found = []
        for rows, tensors in by_rows.items():
            parts = n // rows
            each = len(tensors) // parts  # tensors that the answer to one part left
            if each * parts == len(tensors):
                found += [tensors[first::each] for first in range(each)]
        return found


def _joined(parts: list[Tensor], answer: Tensor) -> Tensor:
    """Answers to parts of the inputs as one, [n, classes]."""
    return torch.cat([part.reshape(-1, answer.shape[-1]).float() for part in parts])


def _agree(scores: Tensor, answer: Tensor) -> Tensor:
    """Whether both name the same class, [n]."""
    return scores.detach().argmax(1) == answer.detach().reshape(scores.shape).argmax(1)


def _made_of(agreeing: list[Tensor], answer: Tensor, met: Met | None) -> Tensor:
    """``answer`` with the gradient of the mean of the scores that name its class at each input."""
    rows = answer.detach().reshape(-1, answer.shape[-1]).float()
    shown = torch.stack([scores / spread_along(scores, 1) for scores in agreeing])
    agrees = torch.stack([_agree(scores, answer).float() for scores in agreeing])
    agrees = torch.where(agrees.any(0), agrees, 1.0)[..., None]
    mean = (shown * agrees).sum(0) / agrees.sum(0)
    soft = (mean * spread_along(rows, 1)).view(answer.shape)
    return straight_through(answer.detach(), soft.to(answer.dtype), met)


def _follows(answer: Tensor, parts: list[Tensor]) -> Tensor:
    """Whether an answer's margin rises with that of the scores in ``parts``, [n]; if it is apart, too."""
    rows = answer.reshape(-1, answer.shape[-1])
    slopes = gradients_of(_gap(rows, rows).sum(), parts, retain_graph=True, allow_unused=True)
    scores = _joined(parts, answer).detach().requires_grad_()
    if all(slope is None for slope in slopes):
        return torch.ones_like(rows[:, 0], dtype=torch.bool)
    found = [torch.zeros_like(part) if each is None else each for part, each in zip(parts, slopes)]
    (wanted,) = gradients_of(_gap(scores, scores).sum(), scores)
    return torch.cosine_similarity(_joined(found, answer), wanted, dim=1) > FOLLOWING


def _gap(scores: Tensor, by: Tensor) -> Tensor:
    """The largest of each row of ``scores`` less the second, as ``by`` has them, [n]."""
    first, second = by.detach().topk(2, 1).indices.unbind(1)
    return scores.gather(1, first[:, None]) - scores.gather(1, second[:, None])
