"""Networks trained on scikit-learn's digits, held between certificates and attacks of our own, and wrappers
whose slopes lie.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.losses import Loss, cross_entropy, margin_loss
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.models import loading, pixel_model
from zoo.known import Known, Truth, everywhere_later, exactly
from zoo.linear import Deterministic, WithDecoy, with_slope_of
from zoo.masked_gradients import Lifted, OneHot

EXAMPLES = 256  # of the test data, the first; the networks are a hundred times as slow as a linear model


def digits_network(name: str) -> pixel_model.PixelModel:
    """A shipped network for digits, by its name.

    Raises:
        InputError: it is not there.
    """
    x, y = load_digits("test").batch(range(EXAMPLES))
    return checkpoints.with_normalisation(loading.load_checkpoint(name), x, y)


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
            live = stands.nonzero().squeeze(1)
            perturbed = descended(model, x[live], y[live], begin[live], eps, loss)
            with torch.no_grad():
                stands[live] = model(perturbed).argmax(1) == y[live]
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


# A linear classifier trained to be robust on scikit-learn's digits.
#
# It has ten classes and weights W, and is trained on its worst case: every logit z_c is raised by eps ||w_c -
# w_y||_1, what an l-infinity perturbation can do to it. Truth: it is fooled exactly if for some class c the
# margin (w_y - w_c) . x + b_y - b_c can be pushed below zero, and each of these is a sum over pixels that go
# to the worse end of their intervals, box included (as in ``linear.worst_margins``).


CLASSES = 10
TRAINING_STEPS = 300


def known_linear(n: int = 640, eps: float = 0.1) -> Known:
    model = trained_linear(eps)
    x, y = load_digits("test").batch(range(n))
    clean = (pairwise_margins(model, x, y, 0.0) > 0).double().mean().item()
    robust = exactly((pairwise_margins(model, x, y, eps) > 0).double().mean().item())
    defence = Standard(model)
    defence.name = "trained-linear"
    return Known(defence, x, y, exactly(clean), lambda threat: robust)


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
    leads = (towards * worst).sum(-1) + b[y][:, None] - b
    return leads.scatter(1, y[:, None], torch.inf).amin(1)


# Four wrappers around the digits network trained without defence: its answers, and slopes that lie.
#
# Each answers with exactly the network's class for every input, so its robust accuracy is the network's and
# its gain over it is exactly 0. What an attacker sees of it is made up:
#
# - ``one-hot``: 10 for the network's class, 0 for the others, with the slope of a linear model of the digits;
#   it names no base.
# - ``other-base``: the same, and it names another network as its base.
# - ``pinned``: the network's class at 0.1, the one that the decoy would answer (the next, where the two
#   agree) at 0, the others far below, with the decoy's slope: a margin that never changes.
# - ``lifted``: the decoy's own logits, bounded, with the network's class lifted above them. Gradients agree
#   with differences of logits; the network shows where its class changes alone. It names no base.
#
# Truth: no more than what our own attack on the network leaves (40 steps along the gradients of margin and
# cross-entropy, each from the clean input and a random start). Nothing is certified: the lower end is 0.


WRAPPED, OTHER = "digits-erm", "digits-mixup"


class Pinned(WithDecoy):
    """The model's class is ahead of one other by 0.1, always, with the decoy's slope."""

    def forward(self, x: Tensor) -> Tensor:
        slope = self.decoy(x)
        first = self.model(x).argmax(-1, keepdim=True)
        second = slope.detach().scatter(-1, first, -torch.inf).argmax(-1, keepdim=True)
        values = torch.full_like(slope, -5.0).scatter(-1, second, 0.0).scatter(-1, first, 0.1)
        return with_slope_of(values, slope)


def known_wrapped(
    name: str, kind: type[OneHot | Pinned | Lifted], n: int = EXAMPLES, eps: float = 0.1
) -> Known:
    model = _network(WRAPPED)
    return _known(Deterministic(name, kind(model, decoy())), model, n, eps)


def known_other_base(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    model = _network(WRAPPED)
    defence = Deterministic(f"other-base-{eps:g}", OneHot(model, decoy()), base=_network(OTHER))
    return _known(defence, model, n, eps)


@lru_cache
def decoy() -> LinearClassifier:
    """A linear model of the digits: the ridge regression of the classes on the training images."""
    train = load_digits("train")
    x, y = train.batch(range(len(train)))
    pixels = torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1).double()
    wanted = functional.one_hot(y).double() - 0.1
    solved = torch.linalg.solve(pixels.T @ pixels + torch.eye(pixels.shape[1]).double(), pixels.T @ wanted)
    return LinearClassifier((10 * solved[:-1].T).float(), (10 * solved[-1]).float())


def _known(defence: Deterministic, model: nn.Module, n: int, eps: float) -> Known:
    x, y = load_digits("test").batch(range(min(n, EXAMPLES)))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).double().mean().item()
    # Computed on demand: the defence alone is wanted more often.
    robust = everywhere_later(lambda: Truth(0.0, _robust_share(len(x), eps)))
    return Known(defence, x, y, exactly(clean), robust, checkpoint=model)


@lru_cache
def _network(name: str) -> nn.Module:
    return digits_network(name)


@lru_cache
def _robust_share(n: int, eps: float) -> float:
    """Accuracy that our attack leaves the wrapped network on the first n examples."""
    x, y = load_digits("test").batch(range(n))
    return standing_after_descent(_network(WRAPPED), x, y, eps).double().mean().item()


# This project's adversarially trained network for digits, held between a certificate and an attack.
#
# Truth: no less than what linear bounds certify (CROWN, arXiv 1811.00866), no more than what descents of our
# own leave. csrobust computed the certificate in November 2026, and its results stand here.


NAME = "digits-pgd-at"
EPS = 0.1
# Of the first 256 test images, those that are not certified at this eps.
UNCERTIFIED = (
    1, 2, 4, 7, 8, 14, 17, 25, 26, 30, 41, 45, 46, 51, 52, 58, 63, 67, 68, 69, 72, 82, 84, 86, 94, 97,
    98, 102, 105, 106, 107, 108, 110, 114, 115, 118, 122, 126, 134, 138, 141, 143, 147, 148, 150, 152,
    155, 160, 162, 168, 180, 181, 185, 188, 195, 197, 200, 203, 211, 213, 216, 217, 218, 220, 226, 227,
    231, 232, 233, 234, 235, 237, 244, 248, 249, 251,
)  # fmt: skip


def known_pgd_at(n: int = EXAMPLES, eps: float = EPS) -> Known:
    """The network alone; at another eps nothing is certified."""
    model = digits_network(NAME)
    n = min(n, EXAMPLES)
    x, y = load_digits("test").batch(range(n))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).double().mean().item()
    low = sum(i not in UNCERTIFIED for i in range(n)) / n if eps == EPS else 0.0
    defence = Standard(model)
    defence.name = NAME

    def bounds() -> Truth:
        return Truth(low, standing_after_descent(model, x, y, eps).double().mean().item())

    return Known(defence, x, y, exactly(clean), everywhere_later(bounds))
