"""Threat models as tensors: whose losses count in a batch, and which of its inputs may be perturbed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks.gradients import gradient

GradientMode = Literal["summed", "signs", "exact"]


@dataclass(frozen=True, eq=False)
class Objective:
    """Attributes:
    weights: ``[G, K]`` of numbers >= 0. Every slot's steps increase the weighted mean of the batch's losses,
        and that mean is the loss of every slot: one victim's loss, or that of all untouched inputs. None:
        each slot's loss is its own.
    gradient_mode: what a slot's gradient is taken of, without weights. "summed": all losses of the batch, in
        one backward pass. "exact": the slot's own loss alone, in K passes. "signs": the slot's own loss in
        expectation, in one pass: the gradient of sum_i s_i l_i times s_i, with fair random signs s.
    generators: one a batch, for the signs.

    Raises:
        ValueError: weights together with own losses, signs without generators, weights below 0.
    """

    weights: Tensor | None = None
    gradient_mode: GradientMode = "summed"
    generators: Sequence[torch.Generator] | None = None

    def __post_init__(self) -> None:
        if self.gradient_mode not in ("summed", "signs", "exact"):
            raise ValueError(f"expected gradient_mode summed, signs or exact, got {self.gradient_mode}")
        if self.gradient_mode == "signs" and self.generators is None:
            raise ValueError("expected generators for gradient_mode=signs, got None")
        if self.weights is not None:
            if self.gradient_mode != "summed":
                raise ValueError(
                    f"expected weights or own losses, got both (gradient_mode={self.gradient_mode})"
                )
            if self.weights.ndim != 2 or not bool(
                (self.weights >= 0).all() & (self.weights.sum(1) > 0).all()
            ):
                raise ValueError("expected weights [G, K] >= 0 with one above 0 in each batch")

    def select(self, batches: Sequence[int]) -> "Objective":
        """The objective of some of the batches, in that order."""
        weights = None if self.weights is None else self.weights[list(batches)]
        generators = None if self.generators is None else [self.generators[g] for g in batches]
        return Objective(weights, self.gradient_mode, generators)

    def slot_losses(self, losses: Tensor) -> Tensor:
        """``[n, G, K]`` losses of the examples -> ``[n, G, K]`` losses that the slots maximise."""
        if self.weights is None:
            return losses
        if self.weights.shape != losses.shape[1:]:
            raise ValueError(f"expected weights {tuple(losses.shape[1:])}, got {tuple(self.weights.shape)}")
        weights = self.weights.to(losses)
        mean = (losses * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return mean.expand_as(losses)

    def differentiate(self, raised: Tensor, x: Tensor) -> tuple[Tensor, int]:
        """The gradient of each slot's loss, like ``x``, and the number of backward passes it took.

        Args:
            raised: slot losses ``[n, G, K]``; for summed losses, anything computed from them that ends in K.
            x: the leaf they were computed from, ``[n * G, K, C, H, W]``.
        Raises:
            NoGradient: they were not, or torch cannot differentiate what connects them.
        """
        if self.weights is not None:
            # All slots hold the same number.
            return gradient(raised.mean(-1).sum(), x), 1
        if self.gradient_mode == "summed":
            return gradient(raised.sum(), x), 1
        if self.gradient_mode == "signs":
            assert self.generators is not None
            drawn = [torch.randint(0, 2, raised.shape[::2], generator=g) for g in self.generators]
            signs = (2 * torch.stack(drawn, 1) - 1).to(raised)
            grad = gradient((signs * raised).sum(), x)
            return grad.mul_(signs.flatten(0, 1)[:, :, None, None, None]), 1
        k = raised.shape[-1]
        grad = torch.empty_like(x)
        for slot in range(k):
            grad[:, slot] = gradient(raised[..., slot].sum(), x, again=slot < k - 1)[:, slot]
        return grad, k


class Roles(NamedTuple):
    """Attributes:
    eps_scale: ``[G, K]``, for ``PerturbationBudget``: 0 holds a slot, 1 gives it eps, inf the whole box.
    weights: ``[G, K]``, for ``Objective``: whose losses the attack maximises.
    """

    eps_scale: Tensor
    weights: Tensor


def one_victim(slots: Tensor, k: int) -> Roles:
    """One input moves within eps, among co-batched inputs that are held; its own loss counts.

    Args:
        slots: ``[G]``, the victim's place in each batch.
        k: inputs a batch.
    """
    victims = torch.nn.functional.one_hot(slots, k).to(torch.float32)
    return Roles(victims, victims)


def co_batch(slots: Tensor, k: int) -> Roles:
    """The victim moves within eps and its co-batched inputs anywhere in the box (arXiv 2301.12576)."""
    victims = torch.nn.functional.one_hot(slots, k).to(torch.float32)
    return Roles(torch.where(victims > 0, 1.0, torch.inf), victims)


def collateral(malicious: Tensor, *, free: bool) -> Roles:
    """Some inputs move, within eps or anywhere, to raise the loss of those that do not.

    Args:
        malicious: ``[G, K]``, bool; at least one of each batch is not.
        free: whether the malicious ones may go anywhere in the box.
    """
    return Roles(torch.where(malicious, torch.inf if free else 1.0, 0.0), (~malicious).to(torch.float32))


def copies(victims: Tensor, k: int) -> Tensor:
    """Batches of ``k`` copies of one input each, ``[G, C, H, W]`` -> ``[G, k, C, H, W]``.

    All coded inputs of such a batch are equal, so randomised coded inference answers as its base model does.
    """
    return victims[:, None].repeat(1, k, 1, 1, 1)
