"""A linear classifier trained to be robust on scikit-learn's digits.

It has ten classes and weights W, and is trained on its worst case: every logit z_c is raised by eps ||w_c -
w_y||_1, what an l-infinity perturbation can do to it. Truth: it is fooled exactly if for some class c the
margin (w_y - w_c) . x + b_y - b_c can be pushed below zero, and each of these is a sum over pixels that go to
the worse end of their intervals, box included (as in ``linear.worst_margins``).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.digits import load_digits
from robustbench_coded.defences.standard import Standard
from robustbench_coded.zoo.known import Known, exactly

CLASSES = 10
TRAINING_STEPS = 300


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
