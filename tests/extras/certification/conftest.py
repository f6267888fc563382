"""Small networks with weights from a seed, and the exact minimum of one with a hidden layer."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn


def seeded(network, seed=0):
    """The network with normal weights, its batch-norms with statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, value in module.named_parameters(recurse=False):
            fan_in = value[0].numel() if value.ndim > 1 else 4
            value.data.normal_(generator=generator).mul_(fan_in**-0.5)
            if name == "weight" and value.ndim == 1:
                value.data.add_(1)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator).mul_(0.2)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval().requires_grad_(False)


def images(n, *shape, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(100 + seed))


def lowest_lead(model, x, y, norm, eps, steps=40):
    """The least lead of class ``y`` over the next [images] that descents within eps come across."""
    lowest, at = torch.full((len(x),), torch.inf), x.clone()
    for _ in range(steps):
        at.requires_grad_()
        logits = model(at)
        lead = logits.gather(1, y[:, None]).squeeze(1) - logits.scatter(1, y[:, None], -torch.inf).amax(1)
        lowest = torch.minimum(lowest, lead.detach())
        (grad,) = torch.autograd.grad(lead.sum(), at)
        with torch.no_grad():
            if norm == "linf":
                at = (at - eps / 4 * grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
            else:
                moved = at - eps / 4 * grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) - x
                size = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                at = (x + moved * (eps / size).clamp(max=1)).clamp(0, 1)
    return lowest


@pytest.fixture
def one_hidden():
    """A network with one hidden layer of 5 on images of 1 x 2 x 2, three classes."""
    return seeded(nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), seed=3)


def exact_least(network, low, high, objective):
    """The least of ``objective`` . logits over a box: a linear program for every pattern of the ReLUs."""
    w1, b1, w2, b2 = (p.double().numpy() for p in network.parameters())
    c = objective @ w2
    least = np.inf
    for pattern in product((0, 1), repeat=len(b1)):
        on = np.array(pattern)
        sign = np.where(on, -1.0, 1.0)[:, None]  # on: w x + b >= 0
        cost = (c * on) @ w1
        solved = linprog(
            cost, A_ub=sign * w1, b_ub=-(sign[:, 0] * b1), bounds=list(zip(low, high, strict=True))
        )
        if solved.status == 0:
            least = min(least, solved.fun + (c * on) @ b1 + objective @ b2)
    return least
