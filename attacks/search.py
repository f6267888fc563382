"""The loop of every random search: propose a point, compare it with the kept one, keep the better."""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.wide import wide

Propose = Callable[[int, Tensor], Tensor]  # number of the query, kept points -> candidates like them


def search(
    first: Tensor, propose: Propose, steps: int, y: Tensor, estimator: Estimator, *, early_stop: bool
) -> Tensor:
    """The points with the largest margin loss found, ``[G, K, C, H, W]``.

    A query is a whole batch, in which every slot holds one candidate: no two candidates of an example share a
    batch. If an example's loss depends on a draw or on its batch, one lucky value would block all better
    candidates. Each candidate is then compared with the kept point under the same draws, two queries at a
    time, and no wrong answer ends the search.

    Args:
        first: the first candidates.
        steps: queries, including those of kept points.
        y: true classes ``[G, K]``.
        early_stop: stop on an example after its first wrong answer. Only for targets that answer inputs one
            by one and without randomness.
    """
    best = first
    if not estimator.per_example:
        for query in range(1, steps, 2):
            if estimator.exhausted:
                break
            candidate = propose(query, best)
            kept, found = estimator.compare([best, candidate], y, margin_loss)
            best = torch.where(wide(found.loss > kept.loss), candidate, best)
        return best
    found = estimator.value(best, y, margin_loss)
    best_loss, wrong = found.loss, found.logits.argmax(-1) != y
    for query in range(1, steps):
        if estimator.exhausted or (early_stop and bool(wrong.all())):
            break
        candidate = propose(query, best)
        # Random numbers are drawn for all slots: an example's do not depend on which others are left.
        left = ~wrong if early_stop else torch.ones_like(wrong)
        loss, wrong_now = _value(estimator, candidate, y, left)
        better = left & (loss > best_loss)
        best = torch.where(wide(better), candidate, best)
        best_loss = torch.where(better, loss, best_loss)
        wrong = wrong | (left & wrong_now)
    return best


def _value(estimator: Estimator, x: Tensor, y: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the examples that are left and whether they are wrong; asked as one batch if some stopped."""
    if bool(left.all()):
        found = estimator.value(x, y, margin_loss)
        return found.loss, found.logits.argmax(-1) != y
    found = estimator.value(x[left][None], y[left][None], margin_loss)
    loss = torch.full(y.shape, -torch.inf, dtype=x.dtype, device=x.device)
    wrong = torch.zeros_like(y, dtype=torch.bool)
    loss[left], wrong[left] = found.loss[0], found.logits[0].argmax(-1) != y[left]
    return loss, wrong
