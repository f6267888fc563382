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

from attacks.relaxation.graft import graft
from attacks.relaxation.record import Met, Record
from attacks.relaxation.scale import spread_along

KEPT = 1024  # tensors of a forward
# Share of inputs at which a tensor names the answer's class, above that of chance on the way to 1.
AGREEING = 0.45
WITHOUT = "an answer without a gradient"
ASTRAY = "an answer that does not follow its scores"
FOLLOWING = 0.1  # cosine between the slope of an answer's margin in its scores, and that of their own margin


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

    def mended(self, answer: Tensor, record: Record) -> Tensor:
        """``answer`` [..., classes]; where its slope in its scores is not theirs, as ``behind`` has it."""
        if answer.shape[-1] < 2:
            return answer
        rows = answer.reshape(-1, answer.shape[-1])
        named = rows.argmax(1)
        least = AGREEING + (1 - AGREEING) / rows.shape[1]
        for parts in self._parts(*rows.shape):
            scores = torch.cat([part.detach().reshape(-1, rows.shape[1]) for part in parts]).float()
            agree = scores.argmax(1) == named
            if float(agree.float().mean()) > least:
                break
        else:
            return answer
        try:
            slopes = torch.autograd.grad(_gap(rows, rows).sum(), parts, retain_graph=True, allow_unused=True)
        except RuntimeError:  # a graph that is gone through as a whole or not at all
            return answer
        found = [torch.zeros_like(part) if s is None else s for part, s in zip(parts, slopes)]
        slope = torch.cat([each.reshape(-1, rows.shape[1]) for each in found]).float()
        leaf = scores.requires_grad_()
        (wanted,) = torch.autograd.grad(_gap(leaf, leaf).sum(), leaf)
        astray = agree & ~(torch.cosine_similarity(slope, wanted, dim=1) > FOLLOWING)
        if not bool(astray.any()) or (behind := self.behind(answer, record.note(ASTRAY))) is None:
            return answer
        return torch.where(astray.view(*answer.shape[:-1], 1), behind, answer)

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
        return [
            torch.cat([part.reshape(-1, classes).float() for part in parts])
            for parts in self._parts(n, classes)
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


def _gap(scores: Tensor, by: Tensor) -> Tensor:
    """The largest of each row of ``scores`` less the second, as ``by`` has them, [n]."""
    first, second = by.detach().topk(2, 1).indices.unbind(1)
    return scores.gather(1, first[:, None]) - scores.gather(1, second[:, None])
