"""What a strong attack of the zoo's own leaves of a network: an upper end of its truth."""

import torch
from torch import Tensor, nn

from attacks.losses import Loss, cross_entropy, margin_loss

STEPS = 40


def standing_after_descent(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Which inputs are right, clean and after every descent, bool [n].

    Descents follow the gradients of margin and cross-entropy, each from the clean input and from a random
    start within the l-infinity ball of radius ``eps``.
    """
    with torch.no_grad():
        stands = model(x).argmax(1) == y
    start = x + eps * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
    for begin in (x, start.clamp(0, 1)):
        for loss in (margin_loss, cross_entropy):
            left = stands.nonzero().squeeze(1)
            found = descended(model, x[left], y[left], begin[left], eps, loss)
            with torch.no_grad():
                stands[left] = model(found).argmax(1) == y[left]
    return stands


def descended(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, loss: Loss) -> Tensor:
    """Where steps up the loss's gradient end, within ball and box; shorter ones in the second half."""
    at = start
    for step in range(STEPS):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(loss(model(at), y).sum(), at)
        size = eps * (0.25 if step < STEPS // 2 else 0.05)
        at = (at.detach() + size * grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return at.detach()
