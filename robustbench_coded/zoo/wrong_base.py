"""Defences that name a network as their base which they have nothing to do with.

``wrong-base-weak`` is the checkpoint itself, and names a model as its base that any perturbation fools: what
looks like a gain is none. ``wrong-base-strong`` is robust, and neither the checkpoint nor the base that it
names is: its gain over both is real.

Truth: the linear model's that answers, exactly, under all threat models; images have a part along a robust
and along a fragile pattern.
"""

from torch import Tensor

from robustbench_coded.zoo.deterministic import Deterministic, standing
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import LinearModel, along, margins, mostly_robust, pattern, spread

ROBUST, FRAGILE = 10, 29


def known_weak(n: int = 640, eps: float = 0.1) -> Known:
    robust, fragile, x, y = _both(n, eps)
    return _known(Deterministic("wrong-base-weak", robust, base=fragile), robust, robust, x, y, eps)


def known_strong(n: int = 640, eps: float = 0.1) -> Known:
    robust, fragile, x, y = _both(n, eps)
    return _known(Deterministic("wrong-base-strong", robust, base=fragile), robust, fragile, x, y, eps)


def _both(n: int, eps: float) -> tuple[LinearModel, LinearModel, Tensor, Tensor]:
    robust, x, y = mostly_robust(ROBUST, n, eps, flat_along=[pattern(FRAGILE)])
    near = (2 * y - 1) * spread(0.25 * eps, 0.6 * eps, n, seed=2)
    x = x + near.view(-1, 1, 1, 1) * pattern(FRAGILE)
    return robust, along(pattern(FRAGILE)), (x.clamp(0, 1) * 255).round() / 255, y


def _known(
    defence: Deterministic, answers: LinearModel, checkpoint: LinearModel, x: Tensor, y: Tensor, eps: float
) -> Known:
    clean = exactly((margins(answers, x, y) > 0).double().mean().item())
    return Known(defence, x, y, 128, clean, everywhere(standing(answers, x, y, eps)), checkpoint=checkpoint)
