"""Attackers by the draws that they average over.

Fresh draws (EOT, arXiv 1707.07397), one fixed draw, the scored draw, the set that a greedy model-space attack
has collected (arXiv 2110.14735), and as many fresh draws as still make gradients agree better.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from attacks.estimators.averaging import AveragingEstimator, DrawSet, Estimate
from attacks.losses import Loss
from attacks.objective import Objective
from attacks.oracle import Oracle


class FreshDraws(AveragingEstimator):
    """Every query uses draws that were never used before (EOT, arXiv 1707.07397).

    Args:
        oracle: the target; if it is not randomised, one answer replaces ``draws``.
        draws: how many a query averages over: 1 is plain PGD on a randomised model, M is EOT-M.
        max_images, objective: as in ``AveragingEstimator``.
    """

    def __init__(
        self, oracle: Oracle, *, draws: int = 1, max_images: int = 512, objective: Objective | None = None
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        if draws < 1:
            raise ValueError(f"expected draws >= 1, got {draws}")
        self.draws = draws if oracle.randomised else 1
        self._used = 0

    def draw_sets(self) -> Sequence[DrawSet]:
        if not self.oracle.randomised:
            return [self.oracle.draws(0)]
        first, self._used = self._used, self._used + self.draws
        return [self.oracle.draws(index) for index in range(first, self._used)]


class FixedDraw(AveragingEstimator):
    """Draw 0 of the attacker's stream in every query: a deterministic surrogate."""

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self.oracle.draws(0)]


class KnownDraw(AveragingEstimator):
    """Every query uses the given draws, one for each of the G batches."""

    def __init__(
        self, oracle: Oracle, draws: DrawSet, *, max_images: int = 512, objective: Objective | None = None
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        self._draws = draws

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self._draws]


Combine = Literal["avg", "min"]


class CollectedDraws(AveragingEstimator):
    """A growing set of draws, attacked together; ``attacks.composite`` says when it grows.

    Args:
        oracle: the target.
        combine: "avg" maximises the mean of an example's losses over the set, "min" the smallest of them.
        max_images: images that one forward may hold. If the set does not fit, "min" runs twice: first for the
            values, to find the draw with the smallest loss of each example.
        objective: as in ``AveragingEstimator``; "min" supports summed losses only.
    """

    def __init__(
        self,
        oracle: Oracle,
        *,
        combine: Combine,
        max_images: int = 512,
        objective: Objective | None = None,
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        if combine == "min" and self.objective.gradient_mode != "summed":
            raise ValueError(
                f"expected summed losses for combine min, got gradient_mode={self.objective.gradient_mode}"
            )
        if combine not in ("avg", "min"):
            raise ValueError(f"expected combine avg or min, got {combine}")
        self.combine = combine
        self._sets: list[DrawSet] = []

    def collect(self) -> None:
        """Adds the target's next draw to the set."""
        if self.oracle.randomised or not self._sets:
            self._sets.append(self.oracle.draws(len(self._sets)))
            # The cost of the next query grows with the set.
            self._cost_per_input *= len(self._sets) / max(1, len(self._sets) - 1)

    def draw_sets(self) -> Sequence[DrawSet]:
        if not self._sets:
            raise ValueError("expected at least one collected draw, got none")
        return self._sets

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        if self.combine == "avg" or len(self.draw_sets()) == 1:
            return super().gradient(x, y, loss)
        with self._query(y):
            return self._smallest(x, y, loss, differentiate=True)

    def compare(self, xs: Sequence[Tensor], y: Tensor, loss: Loss) -> list[Estimate]:
        if self.combine == "avg" or len(self.draw_sets()) == 1:
            return super().compare(xs, y, loss)
        with self._query(y):
            return [self._smallest(x, y, loss, differentiate=False) for x in xs]

    def _smallest(self, x: Tensor, y: Tensor, loss: Loss, *, differentiate: bool) -> Estimate:
        parts = list(self._parts(x, self.draw_sets()))
        if len(parts) == 1:
            answer = self._answer(x, y, loss, parts[0], _smallest_of if differentiate else None)
            grad = None if answer.grad is None else answer.grad.sum(0)
            return Estimate(answer.losses.amin(0), grad, answer.logits.mean(0))
        answers = [self._answer(x, y, loss, part, None) for part in parts]
        losses = torch.cat([answer.losses for answer in answers])
        logits = torch.cat([answer.logits for answer in answers]).mean(0)
        if not differentiate:
            return Estimate(losses.amin(0), None, logits)
        counts = torch.zeros_like(losses).scatter_(0, losses.argmin(0, keepdim=True), 1)
        grad = torch.zeros_like(x)
        for part, share in zip(parts, counts.split([len(part) for part in parts])):
            if bool(share.any()):
                found = self._answer(x, y, loss, part, share.mul).grad
                assert found is not None
                grad += found if found.ndim == x.ndim else found.sum(0)
        return Estimate(losses.amin(0), grad, logits)


def _smallest_of(losses: Tensor) -> Tensor:
    return losses.amin(0)


class EotAuto(AveragingEstimator):
    """Averages over fresh draws; their number M grows while that makes independent gradients agree better.

    Agreement is the cosine between the gradients of two disjoint sets of M draws, averaged over a batch.
    M doubles while the agreement rises by more than 5% of its value and is below 0.9. Two doublings in a row
    without such a rise end the growth; one may be chance. M is checked in the first query and in every tenth
    after it, because noise weighs more as gradients shrink. M never falls and does not grow beyond what the
    query budget allows. Each batch has its own M: without a query budget no batch depends on its group.

    Args:
        oracle: the target; if it is not randomised, one answer is enough.
        max_draws: M grows no further.
        max_images, objective: as in ``AveragingEstimator``.

    Attributes:
        draws: the current M of each batch; empty before the first query.
    """

    RISE = 1.05
    ENOUGH = 0.9
    CHECK_EVERY = 10

    def __init__(
        self,
        oracle: Oracle,
        *,
        max_draws: int = 64,
        max_images: int = 512,
        objective: Objective | None = None,
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        if max_draws < 1:
            raise ValueError(f"expected max_draws >= 1, got {max_draws}")
        self.max_draws = max_draws
        self.draws: list[int] = []
        self._used: list[int] = []  # draws that each batch has taken from its stream
        self._queries = 0

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self.oracle.draws(0)]

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        if not self.oracle.randomised:
            return super().gradient(x, y, loss)
        self._begin(len(x))
        before, drawn = self._cost_so_far, sum(self._used)
        if self._queries % self.CHECK_EVERY == 0 and self.max_draws > 1:
            estimates = self._grow(x, y, loss)
        else:
            estimates = self._each(x, y, loss, differentiate=True)
        self._queries += 1
        # The cost of a query with M draws, without the cost of finding M.
        asked = sum(self._used) - drawn
        self._inputs = y.shape[0] * y.shape[1]
        self._cost_per_input = (self._cost_so_far - before) / self._inputs * sum(self.draws) / asked
        grads = [grad for _, grad, _ in estimates if grad is not None]
        return Estimate(
            torch.stack([e.loss for e in estimates]),
            torch.stack(grads),
            torch.stack([e.logits for e in estimates]),
        )

    def compare(self, xs: Sequence[Tensor], y: Tensor, loss: Loss) -> list[Estimate]:
        if not self.oracle.randomised:
            return super().compare(xs, y, loss)
        self._begin(len(y))
        before, answers = list(self._used), []
        with self._query(y):
            for x in xs:
                self._used = list(before)
                each = self._each(x, y, loss, differentiate=False)
                losses, logits = torch.stack([e.loss for e in each]), torch.stack([e.logits for e in each])
                answers.append(Estimate(losses, None, logits))
        return answers

    def _begin(self, batches: int) -> None:
        if not self.draws:
            self.draws, self._used = [1] * batches, [0] * batches
        if len(self.draws) != batches:
            raise ValueError(f"expected the same {len(self.draws)} batches in every query, got {batches}")

    def _ask(
        self, x: Tensor, y: Tensor, loss: Loss, batches: Sequence[int], draws: int, *, differentiate: bool
    ) -> list[Estimate]:
        """The mean over the next ``draws`` draws of each of ``batches``."""
        sets = []
        for i in range(draws):
            sets.append([self.oracle.draws(self._used[g] + i)[g] for g in batches])
        for g in batches:
            self._used[g] += draws
        chosen = torch.tensor(batches, device=x.device)
        whole = len(batches) == len(x)
        found = self._average(
            x if whole else x[chosen],
            y if whole else y[chosen],
            loss,
            sets,
            differentiate=differentiate,
            objective=self.objective.select(batches),
        )
        return [
            Estimate(found.loss[i], None if found.grad is None else found.grad[i], found.logits[i])
            for i in range(len(batches))
        ]

    def _each(self, x: Tensor, y: Tensor, loss: Loss, *, differentiate: bool) -> list[Estimate]:
        estimates: dict[int, Estimate] = {}
        for draws in sorted(set(self.draws)):
            batches = [g for g, m in enumerate(self.draws) if m == draws]
            found = self._ask(x, y, loss, batches, draws, differentiate=differentiate)
            estimates.update(zip(batches, found))
        return [estimates[g] for g in range(len(x))]

    def _grow(self, x: Tensor, y: Tensor, loss: Loss) -> list[Estimate]:
        """Estimates from all draws that were used to find M; sets ``self.draws``."""
        begun = self._cost_so_far
        estimates = self._each(x, y, loss, differentiate=True)
        size = list(self.draws)  # draws behind each estimate
        best = [0.0] * len(x)
        flat = [0] * len(x)
        growing = set(range(len(x)))
        # A doubling costs as much as all before it.
        while growing and (self.query_budget is None or 2 * self._cost_so_far - begun <= self.query_budget):
            # One size at a time: batches of equal size share their forwards.
            draws = min(size[g] for g in growing)
            batches = sorted(g for g in growing if size[g] == draws)
            for g, other in zip(batches, self._ask(x, y, loss, batches, draws, differentiate=True)):
                agreement = _agreement(estimates[g].grad, other.grad)
                if agreement > best[g] * self.RISE:
                    self.draws[g], best[g], flat[g] = draws, agreement, 0
                else:
                    flat[g] += 1
                estimates[g] = _mean(estimates[g], other)
                size[g] = 2 * draws
                if agreement >= self.ENOUGH or flat[g] == 2 or size[g] > self.max_draws:
                    growing.discard(g)
        return estimates


def _mean(one: Estimate, other: Estimate) -> Estimate:
    assert one.grad is not None and other.grad is not None
    return Estimate((one.loss + other.loss) / 2, (one.grad + other.grad) / 2, (one.logits + other.logits) / 2)


def _agreement(one: Tensor | None, other: Tensor | None) -> float:
    """Mean cosine of the examples that have a gradient at all; 1 where none has one."""
    assert one is not None and other is not None
    one, other = one.flatten(1), other.flatten(1)
    some = (one != 0).any(1) & (other != 0).any(1)
    if not bool(some.any()):
        return 1.0
    return float(torch.cosine_similarity(one[some], other[some], dim=1, eps=1e-30).mean())
