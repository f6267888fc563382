"""A defence that is a function of its pixels, and functions that answer one way and slope another."""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, Truth, everywhere, exactly
from robustbench_coded.zoo.linear import LinearModel, margins, worst_margins


class Deterministic:
    """Answers by ``answer``, a module from pixels [k, C, H, W] to logits [k, classes]."""

    randomised = False
    batch_dependent = False

    def __init__(self, name: str, answer: nn.Module, base: nn.Module | None = None):
        self.name = name
        self.answer = answer
        self.base = base

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.answer(x)


def with_slope_of(values: Tensor, carrier: Tensor) -> Tensor:
    """The values, bit by bit, with the gradient of ``carrier``."""
    return values.detach() + (carrier - carrier.detach())


def standing(model: LinearModel, x: Tensor, y: Tensor, eps: float) -> Truth:
    """The exact share of inputs that no perturbation within ball and box takes across the boundary."""
    return exactly((worst_margins(model, x, y, eps) > 0).double().mean().item())


def like_the_model(
    defence: Deterministic, model: LinearModel, x: Tensor, y: Tensor, eps: float, k: int = 128
) -> Known:
    """What is known of a defence whose answers are those of a linear model, whatever its slopes are."""
    clean = exactly((margins(model, x, y) > 0).double().mean().item())
    return Known(defence, x, y, k, clean, everywhere(standing(model, x, y, eps)))
