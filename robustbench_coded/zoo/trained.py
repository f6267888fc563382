"""Two models trained to be robust, on scikit-learn's digits: of one the truth is known, of one a bound.

``trained-linear`` is a linear classifier of ten classes with weights W, trained on its worst case: where
every logit z_c is raised by eps ||w_c - w_y||_1, what an l-infinity perturbation can do to it. Truth: it is
fooled exactly if for some class c the margin (w_y - w_c) . x + b_y - b_c can be pushed below zero, and each
of these is a sum over pixels that go to the worse end of their intervals, box included (as in
``linear.worst_margins``).

``digits-pgd-at`` is this project's own adversarially trained network. Nothing is proven of it: its truth lies
between 0 and what 40 steps of projected gradient descent leave.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.digits import load_digits
from robustbench_coded.defences.standard import Standard
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint, with_normalisation
from robustbench_coded.zoo.known import Known, Truth, exactly

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "digits-pgd-at.safetensors"
CLASSES = 10
TRAINING_STEPS = 300
ATTACK_STEPS = 40


def known_linear(n: int = 640, eps: float = 0.1) -> Known:
    model = trained_linear(eps)
    x, y = load_digits("test").batch(range(n))
    clean = (pairwise_margins(model, x, y, 0.0) > 0).double().mean().item()
    robust = exactly((pairwise_margins(model, x, y, eps) > 0).double().mean().item())
    defence = Standard(model)
    defence.name = "trained-linear"
    return Known(defence, x, y, 128, exactly(clean), lambda threat: robust)


class LinearClassifier(nn.Module):
    """Logits W x + b with W [classes, pixels], b [classes]."""

    w: Tensor
    b: Tensor

    def __init__(self, w: Tensor, b: Tensor):
        super().__init__()
        self.register_buffer("w", w)
        self.register_buffer("b", b)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w.to(x).T + self.b.to(x)


def trained_linear(eps: float) -> LinearClassifier:
    """The classifier, trained anew: a convex problem from zero weights, full batches, nothing random."""
    x, y = load_digits("train").batch(range(len(load_digits("train"))))
    x = x.flatten(1)
    w = torch.zeros(CLASSES, x.shape[1], requires_grad=True)
    b = torch.zeros(CLASSES, requires_grad=True)
    optimiser = torch.optim.Adam([w, b], lr=0.05)
    for step in range(TRAINING_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - step / TRAINING_STEPS)
        distances = (w[:, None] - w[None]).abs().sum(-1)
        loss = functional.cross_entropy(x @ w.T + b + eps * distances[y], y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return LinearClassifier(w.detach(), b.detach())


def pairwise_margins(model: LinearClassifier, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The smallest margin over all other classes and all perturbations within ball and box, float64 [n]."""
    w, b = model.w.double(), model.b.double()
    x = x.double().flatten(1)
    towards = w[y][:, None] - w
    worst = torch.where(towards > 0, (x - eps).clamp(min=0)[:, None], (x + eps).clamp(max=1)[:, None])
    found = (towards * worst).sum(-1) + b[y][:, None] - b
    return found.scatter(1, y[:, None], torch.inf).amin(1)


def known_pgd_at(n: int = 640, eps: float = 0.1) -> Known:
    if not CHECKPOINT.exists():
        raise InputError(
            f"{CHECKPOINT} is missing; python -m robustbench_coded.training.make_checkpoints makes it"
        )
    x, y = load_digits("test").batch(range(n))
    model, _ = with_normalisation(load_checkpoint(CHECKPOINT), x, y)
    clean = (model(x).argmax(1) == y).double().mean().item()
    robust = Truth(0.0, (model(_descended(model, x, y, eps)).argmax(1) == y).double().mean().item())
    defence = Standard(model)
    defence.name = "digits-pgd-at"
    return Known(defence, x, y, 128, exactly(clean), lambda threat: robust)


def _descended(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    at = x
    for _ in range(ATTACK_STEPS):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(at), y, reduction="sum"), at)
        at = (at.detach() + eps / 8 * grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return at
