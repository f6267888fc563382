"""Test-time adaptation: scores are centred on the batch, as batch normalisation in training mode does it.

Before each batch, ``fit`` takes the mean c of the batch's scores, and inputs are answered by the sign of
s - c. Balanced classes have c near 0, so that nothing changes but the coupling: an attacker who moves all
inputs moves c, too, by up to eps.

Truth under ``batch``: an input with margin m is right in every case where m - eps > |c| + eps, c the clean
centre of its batch; and where every input is moved by eps against its own margin, it is wrong when
eps - m > |c'|, c' the centre of the batch so moved. Under ``victim`` the input itself moves c by eps / K at
most. The margins are chosen so that each input is one or the other, with |c| and |c'| taken as the largest of
the batches in the order given: exact. ``fit`` is differentiable.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, Truth
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    margins,
    pattern,
    planted_margins,
    spread,
    two_logits,
    worst_margins,
)


class Refit:
    """Answers by the sign of the score less its mean over the batch that ``fit`` has seen."""

    randomised = False
    batch_dependent = True
    base: nn.Module | None = None

    def __init__(self, name: str, model: LinearModel):
        self.name = name
        self.model = model
        self.centre = torch.zeros(())

    def fit(self, x: Tensor) -> None:
        self.centre = self.model.score(x).mean()

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return two_logits(self.model.gain * (self.model.score(x) - self.centre))


def known_wide(n: int = 640, eps: float = 0.05) -> Known:
    """Margins of 3 to 3.4 eps for four inputs in five, of 0.1 to 0.3 eps for the others: 80%."""
    few = torch.arange(n) % 5 == 0
    distances = torch.where(few, spread(0.1 * eps, 0.3 * eps, n), spread(3.0 * eps, 3.4 * eps, n))
    return _known("refit-mean", distances, eps)


def known_narrow(n: int = 640, eps: float = 0.05) -> Known:
    return _known("refit-mean-narrow", spread(0.1 * eps, 0.4 * eps, n), eps)


def _known(name: str, distances: Tensor, eps: float, k: int = 128) -> Known:
    model = along(pattern(37))
    x, y = planted_margins(distances, pattern(37))
    truth = truths(model, x, y, eps, k)
    return Known(Refit(name, model), x, y, k, truth["clean"], lambda threat: truth[threat.split("/")[0]])


def truths(
    model: LinearModel, x: Tensor, y: Tensor, eps: float, k: int, share: float = 1.0
) -> dict[str, Truth]:
    """Accuracy clean, under ``batch`` and ``victim``; ``share`` of the batch's mean is taken off."""
    return {
        "clean": _bounds(model, x, y, 0.0, k, share, everyone=True),
        "batch": _bounds(model, x, y, eps, k, share, everyone=True),
        "victim": _bounds(model, x, y, eps, k, share, everyone=False),
    }


def _bounds(
    model: LinearModel, x: Tensor, y: Tensor, eps: float, k: int, share: float, *, everyone: bool
) -> Truth:
    clean, worst = margins(model, x, y), worst_margins(model, x, y, eps)

    def centre(margin: Tensor) -> Tensor:
        batches = (margin * (2 * y - 1)).split(k)
        return share * torch.stack([batch.mean().abs() for batch in batches]).amax()

    reach = share * eps if everyone else share * eps / k
    right = worst > centre(clean) + reach
    wrong = -worst > (centre(worst) if everyone else centre(clean) + reach)
    return Truth(right.double().mean().item(), 1 - wrong.double().mean().item())
