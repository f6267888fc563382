"""Loss and gradient of a target as attackers see them, by what they know: averages over fresh draws (EOT,
arXiv 1707.07397), one known draw, and gradients of the base model, alone or in the backward pass alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from attacks.attack import AnyAttack
from attacks.gradients import NoGradient, gradient
from attacks.losses import Loss
from attacks.oracle import Oracle, fold_rejection, fold_unanswered
from attacks.relaxation import Relaxation


class Estimate(NamedTuple):
    """Attributes:
    loss: ``[G, K]``, detached; what each slot maximises.
    grad: like x; by default of the loss summed over each batch. None where only a value was asked.
    logits: ``[G, K, classes]``, averaged over the draws, detached.
    """

    loss: Tensor
    grad: Tensor
    logits: Tensor


PAIRS_BY_DRAW = 4  # dimensions of classes and targets [n, G, K, 2] that differ between n draws

DrawSet = Sequence[Any]  # one draw for each of the G batches


class Estimator:
    """Losses and gradients of a target for an attacker with given knowledge; x ``[G, K, C, H, W]``.

    Averages loss, gradient and logits over draws that a subclass chooses in ``draw_sets``.

    Args:
        oracle: the target.
        max_images: how many images one forward may hold; if the draws do not fit, they are split over several
            forwards and their gradients are summed.
        weights: ``[G, K]`` of numbers >= 0. Every slot's steps increase the weighted mean of its batch's
            losses, and that mean is the loss of every slot: one victim's loss, for example. None: each slot's
            loss is its own, and its steps increase the sum of the batch's.

    Attributes:
        forwards: images sent through a network so far.
        backwards: images differentiated so far.
        relaxation: gives operators that hide the gradient a smooth backward, in gradient queries; None for
            torch's own gradients.

    Raises:
        ValueError: weights below 0, or a batch without one above 0.
    """

    def __init__(self, oracle: Oracle, *, max_images: int = 512, weights: Tensor | None = None):
        if max_images < 1:
            raise ValueError(f"expected max_images >= 1, got {max_images}")
        w = weights
        if w is not None and (w.ndim != 2 or not bool((w >= 0).all() & (w.sum(1) > 0).all())):
            raise ValueError("expected weights [G, K] >= 0 with one above 0 in each batch")
        self.oracle, self.max_images, self.weights = oracle, max_images, weights
        self.forwards = 0
        self.backwards = 0
        self.relaxation: Relaxation | None = None
        self._nan: Tensor | int = 0  # NaN among losses, not asked for yet: on the inputs' device

    @property
    def per_example(self) -> bool:
        """True if an example's loss depends on that example alone. If it does not, the largest loss seen is
        partly due to a lucky draw or to co-batched inputs."""
        return self.oracle.independent

    @property
    def coupled(self) -> bool:
        """True if an answer may depend on the other inputs of its batch, so that results must be compared
        batch by batch. A target that does not say is taken for the harder case."""
        return bool(getattr(self.oracle, "coupled", not self.oracle.independent))

    def check_losses(self) -> None:
        """Asks for what no query has waited for: on an accelerator at the end of an attack.

        Raises:
            ValueError: a loss was NaN.
        """
        _check_none(self._nan)

    def draw_sets(self) -> Sequence[DrawSet]:
        """The draws of the next query; a target that is not randomised needs only one."""
        raise NotImplementedError

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        """Loss and gradient from the same forwards.

        Raises:
            ValueError: a loss of another shape than ``[G, K]``, or, on a CPU, NaN.
        """
        return self._average(x, self.draw_sets(), partial(self._differentiated, x, y, loss))

    def value(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        """The loss alone: forward only, ``grad`` is None."""
        return self.compare([x], y, loss)[0]

    def compare(self, xs: Sequence[Tensor], y: Tensor, loss: Loss) -> list[Estimate]:
        """A value for each of ``xs`` under the same draws, so that their differences carry less noise."""
        draw_sets = self.draw_sets()
        return [self._average(x, draw_sets, partial(self._forward, x, y, loss)) for x in xs]

    def of_live(
        self, x: Tensor, y: Tensor, loss: Loss, live: Tensor, *, differentiate: bool = False
    ) -> Estimate:
        """Answers about the ``live`` ``[G, K]`` examples alone, in one batch where some have stopped.

        The others have the loss -inf, no gradient and logits of 0. Only for targets that answer one by one.
        """
        ask = self.gradient if differentiate else self.value
        if bool(live.all()):
            return ask(x, y, loss)
        part = ask(x[live][None], y[live][None], loss)
        logits = part.logits.new_zeros(*y.shape, part.logits.shape[-1])
        whole = Estimate(x.new_full(y.shape, -torch.inf), torch.zeros_like(x), logits)
        for all_of, of_part in zip(whole, part, strict=True):
            if of_part is not None:
                all_of[live] = of_part[0]
        return whole

    def _average(
        self, x: Tensor, draw_sets: Sequence[DrawSet], answered: Callable[[Sequence[DrawSet]], Estimate]
    ) -> Estimate:
        losses = logits = grad = None
        for answer in map(answered, self._parts(x, draw_sets)):
            losses = _add(losses, answer.loss.sum(0))
            logits = _add(logits, answer.logits.sum(0))
            if answer.grad is not None:
                grad = _add(grad, answer.grad if answer.grad.ndim == x.ndim else answer.grad.sum(0))
        assert losses is not None and logits is not None
        if (n := len(draw_sets)) > 1:
            losses, logits = losses / n, logits / n
            grad = None if grad is None else grad.div_(n)
        # A defence may answer in another precision; attacks keep losses beside their inputs.
        return Estimate(losses.to(x.dtype), cast(Tensor, grad), logits)

    def held(self, count: int) -> Sequence[DrawSet]:
        """Draws to ask about again and again, ``count`` of them where fresh ones are to be had."""
        return self.draw_sets()

    def each(self, x: Tensor, y: Tensor, loss: Loss, held: Sequence[DrawSet]) -> Estimate:
        """Losses ``[n, G, K]``, gradients ``[n, G, K, C, H, W]`` and logits under each of n held draws.

        ``y`` may differ between draws: pairs of true class and target are ``[G, K, 2]`` or ``[n, G, K, 2]``.
        """
        answers, done = [], 0
        for part in self._parts(x, held):
            own = y[done : done + len(part)] if y.ndim == PAIRS_BY_DRAW else y
            answers.append(self._differentiated(x, own, loss, part))
            done += len(part)
        gradients = [answer.grad for answer in answers if answer.grad is not None]
        return Estimate(
            torch.cat([answer.loss for answer in answers]).to(x.dtype),
            torch.cat([grad if grad.ndim > x.ndim else grad[None] for grad in gradients]),
            torch.cat([answer.logits for answer in answers]),
        )

    def _parts(self, x: Tensor, draw_sets: Sequence[DrawSet]) -> Iterator[Sequence[DrawSet]]:
        size = max(1, self.max_images // max(1, self.oracle.images(x)))
        for first in range(0, len(draw_sets), size):
            yield draw_sets[first : first + size]

    def _differentiated(self, x: Tensor, y: Tensor, loss: Loss, draw_sets: Sequence[DrawSet]) -> Estimate:
        forward = partial(self._forward, x, y, loss, draw_sets, differentiate=True, relaxed=self.relaxation)
        if self.relaxation is None:
            return forward()
        estimate = self.relaxation.attempt(forward)
        return estimate._replace(grad=estimate.grad.nan_to_num_(0.0, 0.0, 0.0))

    def _forward(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        draw_sets: Sequence[DrawSet],
        *,
        differentiate: bool = False,
        relaxed: Relaxation | None = None,
    ) -> Estimate:
        """One forward for n draws of every batch."""
        n = len(draw_sets)
        # One leaf per draw: summing afterwards is cheaper than through autograd and has a fixed order on
        # every device.
        leaf = x.detach() if n == 1 else x.detach().expand(n, *x.shape).flatten(0, 1)
        with torch.set_grad_enabled(differentiate), relaxed.forward() if relaxed else nullcontext():
            leaf.requires_grad_(differentiate)
            # Relaxed, a defence may change its input in place.
            shown = leaf if relaxed is None else leaf.view_as(leaf)
            draws = list(chain.from_iterable(draw_sets))
            # Attacks on a per-example target may have merged its batches.
            logits = self.oracle.logits(shown, draws if self.oracle.randomised else draws[: len(leaf)])
            if logits.shape[:-1] != leaf.shape[:2]:
                raise ValueError(f"expected logits {(*leaf.shape[:2], 'classes')}, got {tuple(logits.shape)}")
            logits = logits.unflatten(0, (n, x.shape[0]))
            wanted = y if y.ndim == PAIRS_BY_DRAW else y.expand(n, *y.shape)
            logits = fold_unanswered(logits, wanted)
            logits = fold_rejection(logits, wanted, getattr(self.oracle, "reject", None))
            losses = loss(logits, wanted)
            if losses.shape != logits.shape[:-1]:
                raise ValueError(f"expected losses {tuple(logits.shape[:-1])}, got {tuple(losses.shape)}")
            without = losses.detach().isnan().sum()
            if losses.device.type == "cpu" or relaxed is not None:
                _check_none(without)
            else:
                self._nan = self._nan + without
            losses = self._maximised(losses)
            if relaxed is not None and losses.requires_grad:
                losses = losses + 0 * leaf.sum()  # there may be a graph that leads elsewhere
        grad, passed = None, False
        if relaxed is not None and not losses.requires_grad:
            grad = torch.zeros_like(leaf)  # smooth operators led nowhere, at these inputs
        elif differentiate:
            try:
                # With weights all slots of a batch hold the same number.
                whole = losses if self.weights is None else losses.mean(-1)
                grad, passed = gradient(whole.sum(), leaf), True
            except NoGradient:
                if relaxed is None or not relaxed.given_up:
                    raise
                grad = torch.zeros_like(leaf)
        if grad is not None:
            grad = finite_slopes(grad)
            grad = grad if n == 1 else grad.unflatten(0, (n, x.shape[0]))
        forwards, backwards = self._cost(leaf, passed)
        self.forwards += forwards
        self.backwards += backwards
        return Estimate(losses.detach(), cast(Tensor, grad), logits.detach())

    def _maximised(self, losses: Tensor) -> Tensor:
        """Losses of the examples as those that the slots maximise, ``[n, G, K]`` each."""
        if self.weights is None:
            return losses
        if self.weights.shape != losses.shape[1:]:
            raise ValueError(f"expected weights {tuple(losses.shape[1:])}, got {tuple(self.weights.shape)}")
        weights = self.weights.to(losses)
        mean = (losses * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return mean.expand_as(losses)

    def _cost(self, x: Tensor, differentiated: bool) -> tuple[int, int]:
        """Images forwarded and differentiated by one answer to ``x``."""
        images = self.oracle.images(x)
        return images, images if differentiated else 0


def finite_slopes(grad: Tensor) -> Tensor:
    """The gradient ``[..., C, H, W]`` without NaN or infinity, which would spoil the input itself.

    Where there is no slope, there is nowhere to go; an infinite one becomes the largest of the others.
    """
    largest = torch.where(grad.isfinite(), grad, 0).abs().amax((-3, -2, -1), keepdim=True)
    largest = torch.where(largest > 0, largest, 1)
    return torch.nan_to_num(grad, nan=0.0).clamp(-largest, largest)


def _check_none(nan: Tensor | int) -> None:
    if count := int(nan):
        raise ValueError(f"expected losses without NaN, got {count} NaN")


def _add(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total.add_(more)


class FreshDraws(Estimator):
    """Every query uses draws that were never used before (EOT, arXiv 1707.07397).

    Args:
        oracle: the target; a deterministic one is queried once.
        draws: number that a query averages over: 1 is plain PGD on a randomised model, M is EOT-M.
    """

    def __init__(self, oracle: Oracle, *, draws: int = 1, **shared: Any):
        super().__init__(oracle, **shared)
        if draws < 1:
            raise ValueError(f"expected draws >= 1, got {draws}")
        self.draws = draws if oracle.randomised else 1
        self._used = 0

    def draw_sets(self) -> Sequence[DrawSet]:
        return self.held(self.draws)

    def held(self, count: int) -> Sequence[DrawSet]:
        if not self.oracle.randomised:
            return [self.oracle.draws(0)]
        first, self._used = self._used, self._used + count
        return [self.oracle.draws(index) for index in range(first, self._used)]


class KnownDraw(Estimator):
    """Every query uses the given draws, one for each of the G batches."""

    def __init__(self, oracle: Oracle, draws: DrawSet, **shared: Any):
        super().__init__(oracle, **shared)
        self._draws = draws

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self._draws]


class PlainModel:
    """A model as a deterministic, per-example oracle."""

    randomised = False
    independent = True
    coupled = False

    def __init__(self, model: Callable[[Tensor], Tensor]):
        self.model = model

    def draws(self, index: int) -> DrawSet:
        return ()

    def logits(self, x: Tensor, draws: DrawSet) -> Tensor:
        # A copy: a model may answer in one buffer again and again.
        return self.model(x.flatten(0, 1)).clone().unflatten(0, x.shape[:2])

    def images(self, x: Tensor) -> int:
        return x.shape[0] * x.shape[1]


class Transfer(KnownDraw):
    """Gradients of a plain model, which gets the G batches of K inputs as one batch of G K.

    Args:
        model: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], **shared: Any):
        super().__init__(PlainModel(model), (), **shared)


class Bpda(FreshDraws):
    """EOT-M with the defence's losses and the base model's Jacobian (arXiv 1802.00420, sec. 4.1).

    The defence need not be differentiable. A gradient runs both forwards and only the base model backwards.

    Args:
        oracle: the defence.
        base: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
        draws: fresh draws per query.
    """

    def __init__(self, oracle: Oracle, base: Callable[[Tensor], Tensor], **shared: Any):
        super().__init__(_BackwardThroughBase(oracle, base), **shared)

    def _cost(self, x: Tensor, differentiated: bool) -> tuple[int, int]:
        base = x.shape[0] * x.shape[1] if differentiated else 0
        return self.oracle.images(x) + base, base


class _BackwardThroughBase:
    """The defence's logits with the base model's autograd graph."""

    def __init__(self, oracle: Oracle, base: Callable[[Tensor], Tensor]):
        self.oracle, self.base = oracle, PlainModel(base)
        self.randomised, self.independent = oracle.randomised, oracle.independent
        self.coupled = getattr(oracle, "coupled", not oracle.independent)
        self.draws, self.images = oracle.draws, oracle.images
        self.reject: int | None = getattr(oracle, "reject", None)

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        with torch.no_grad():
            answer = self.oracle.logits(x, draws)
        if not torch.is_grad_enabled():
            return answer
        base = self.base.logits(x, ())
        if self.reject is not None and base.shape[-1] < answer.shape[-1]:  # the base rejects nothing
            nothing = torch.zeros_like(base[..., :1])
            base = torch.cat([base[..., : self.reject], nothing, base[..., self.reject :]], -1)
        return answer + (base - base.detach())


def estimator_for(
    attack: AnyAttack,
    oracle: Oracle,
    *,
    base: Callable[[Tensor], Tensor] | None = None,
    known: Sequence[Any] | None = None,
    weights: Tensor | None = None,
    max_images: int = 512,
) -> Estimator:
    """The estimator through which an attack sees the target.

    Args:
        oracle: the target.
        base: ``[B, C, H, W]`` -> ``[B, classes]``, for ``transfer`` and ``bpda``.
        known: the scored draw of each batch, for ``aware``.
        weights: ``[G, K]``, whose losses the attack maximises; None for each slot's own.
        max_images: images that one forward may hold.

    Raises:
        ValueError: the attack needs a base model or scored draws that are not given.
    """
    if attack.uses_base and base is None:
        raise ValueError(f"expected a base model for {attack}, got None")
    shared: dict[str, Any] = {"max_images": max_images, "weights": weights}
    estimator: Estimator
    if attack.knows == "transfer":
        assert base is not None
        estimator = Transfer(base, **shared)
    elif attack.knows == "bpda":
        assert base is not None
        estimator = Bpda(oracle, base, draws=attack.draws, **shared)
    elif attack.knows in ("aware", "fixed"):
        known = oracle.draws(0) if attack.knows == "fixed" else known
        if known is None:
            raise ValueError(f"expected the scored draws for {attack}, got None")
        estimator = KnownDraw(oracle, known, **shared)
    else:
        estimator = FreshDraws(oracle, draws=attack.draws, **shared)
    estimator.relaxation = Relaxation() if attack.relaxed else None
    return estimator
