"""Gaussian noise before a linear model: with wide margins robust, with narrow ones only noisy.

Truth: with noise z the margin of an input becomes m + w . z, where w . z is normal with deviation
s = sigma ||w||_2. A perturbation d moves m by w . d, whatever the noise is, so the best one is the same
before and after the draw is known: the one that makes m smallest within the ball and the box
(``linear.worst_margins``). Under all threat models an input is right with probability Phi(worst m / s);
in M submissions of the same input, or of any others, at best with its M-th power.
"""

from torch import Tensor
from torch.special import ndtr

from robustbench_coded.defences.noise import GaussianNoise
from robustbench_coded.zoo.known import Known, Truth, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    margins,
    pattern,
    planted_margins,
    spread,
    worst_margins,
)


def known_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.2 to 2.2 eps under noise of deviation 0.4 eps: about 92% are right whatever is done."""
    defence = GaussianNoise(along(pattern(18)), sigma=3.2 * eps, name="noise-wide")
    defence.base = None  # the model underneath is as robust: against it, nothing is gained
    return _known(defence, spread(1.2 * eps, 2.2 * eps, n), eps)


def known_narrow(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.2 to 0.6 eps under noise of deviation 0.2 eps: averaging over draws breaks it."""
    return _known(
        GaussianNoise(along(pattern(18)), sigma=1.6 * eps, name="noise-narrow"),
        spread(0.2 * eps, 0.6 * eps, n),
        eps,
    )


def _known(defence: GaussianNoise, distances: Tensor, eps: float) -> Known:
    model = defence.model
    assert isinstance(model, LinearModel)
    x, y = planted_margins(distances, pattern(18))
    deviation = defence.sigma * model.w.double().norm()

    def accuracy(margin: Tensor, submissions: int = 1) -> Truth:
        return exactly((ndtr(margin / deviation) ** submissions).mean().item())

    worst = worst_margins(model, x, y, eps)
    robust = accuracy(worst)
    return Known(
        defence,
        x,
        y,
        128,
        accuracy(margins(model, x, y)),
        lambda threat: robust,
        submitted=lambda submissions: accuracy(worst, submissions),
    )
