"""A network taught to answer like the target, attacked in its place: for targets without a useful gradient.

After Papernot et al. (arXiv 1602.02697), per group of batches: the target is queried at the attacked inputs,
mixtures of them and corners of the ball. A small network learns its answers, on top of the base model's where
there is one. The inner attack follows the network's gradients, and the target is queried around its result;
then the network learns again. Nothing is ever differentiated in the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

from attacks.balls import Ball
from attacks.estimators import Estimator, FreshDraws, Transfer
from attacks.losses import margin_loss
from attacks.solver import Problem, Solver, better_of

ROUNDS, FIRST, AROUND = 5, 24, 8  # rounds; questions before the first, and after each
QUERIES = FIRST + ROUNDS * (AROUND + 2)  # two more compare a round's result with the best so far

STEPS, BATCH, RATE = 120, 128, 3e-3  # of Adam, each round
_SPREAD = 4.0  # of the answers that are learned: gap between the largest logit and the mean, in the median
_LARGEST_MAP = 16  # pixels a side; larger images are thinned out by the first convolution


class SurrogateTarget(FreshDraws):
    """Fresh draws of the target, and its base model as a start for the network. Base: pixels -> logits."""

    base: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Surrogate(Solver):
    """Runs an attack on a network that is taught the target's mean answers, ``ROUNDS`` times over.

    Each round goes on from the best points so far; what it finds is kept where the target's own margin loss
    is larger (``attacks.solver``).

    Attributes:
        inner: the attack on the network, which must not stop early.
    """

    inner: Solver

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; the network starts from a ``SurrogateTarget``'s base."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        best = x if start is None else ball.project_(start.clone())
        seeds = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generators[0])))
        memory = _Memory(estimator, y, getattr(estimator, "base", None))
        for point in _first_points(x, ball, generators):
            memory.ask(point)
        network = _Network(x.shape[2:], memory.targets[0].shape[-1], memory.base, seeds).to(x)
        for turn in range(ROUNDS):
            memory.teach(network, seeds)
            result = self.inner.perturb(
                x, y, Transfer(network), budget, generators, best if turn or start is not None else None
            )
            best = better_of(estimator, y, best, result)
            for _ in range(AROUND):
                memory.ask(_near(x, result, ball, generators))
        return best


class _Memory:
    """What the target answered so far.

    Attributes:
        base: pixels -> logits, or None.
        points: pixels [n, C, H, W] of each question. targets: [n, classes], what the network is to learn.
        known: [n, classes], the base model's logits.
    """

    def __init__(self, estimator: Estimator, y: Tensor, base: Callable[[Tensor], Tensor] | None):
        self.estimator, self.y, self.base = estimator, y, base
        self.points: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.known: list[Tensor] = []

    def ask(self, point: Tensor) -> None:
        """Asks about ``[G, K, C, H, W]``."""
        logits = self.estimator.value(point, self.y, margin_loss).logits.flatten(0, 1).to(point)
        self.points.append(point.flatten(0, 1))
        self.targets.append(_likelihoods(logits))
        if self.base is not None:
            with torch.no_grad():
                self.known.append(self.base(self.points[-1]).to(point, copy=True))

    def teach(self, network: "_Network", generator: torch.Generator) -> None:
        """Adam on the cross-entropy to the target's answers."""
        points, targets = torch.cat(self.points), torch.cat(self.targets)
        known = torch.cat(self.known) if self.known else None
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
        with torch.enable_grad():
            for _ in range(STEPS):
                rows = torch.randint(len(points), (min(BATCH, len(points)),), generator=generator)
                rows = rows.to(points.device)
                logits = network.answer(points[rows], None if known is None else known[rows])
                loss = functional.cross_entropy(logits, targets[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()


class _Network(nn.Module):
    """A linear and a small convolutional network, added to multiples of the base model's logits."""

    def __init__(
        self,
        shape: torch.Size,
        classes: int,
        base: Callable[[Tensor], Tensor] | None,
        generator: torch.Generator,
    ):
        super().__init__()
        channels, height, width = shape
        self.base = [base]  # no part of this module: it is not taught
        stride = max(1, max(height, width) // _LARGEST_MAP)
        self.linear = skip_init(nn.Linear, channels * height * width, classes)
        self.first = skip_init(nn.Conv2d, channels, 16, 3, stride, 1)
        self.second = skip_init(nn.Conv2d, 16, 32, 3, 2, 1)
        self.last = skip_init(nn.Linear, 32 * 16, classes)
        self.share = skip_init(nn.Linear, 1, 1, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim == 1:
                    parameter.zero_()
                else:  # He's rule, from a generator of our own
                    size = (2 / parameter[0].numel()) ** 0.5
                    parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
            self.linear.weight.zero_()
            self.share.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        (base,) = self.base
        return self.answer(x, None if base is None else base(x).to(x))

    def answer(self, x: Tensor, known: Tensor | None) -> Tensor:
        """Logits [n, classes] at x [n, C, H, W], given those of the base model."""
        hidden = functional.relu(self.second(functional.relu(self.first(x))))
        hidden = functional.adaptive_avg_pool2d(hidden, 4).flatten(1)
        logits: Tensor = self.linear((x - 0.5).flatten(1)) + self.last(hidden)
        if known is None:
            return logits
        if known.shape[-1] < logits.shape[-1]:  # a base model rejects nothing
            known = functional.pad(known, (0, logits.shape[-1] - known.shape[-1]))
        return logits + self.share.weight * known[:, : logits.shape[-1]]


def _likelihoods(logits: Tensor) -> Tensor:
    """What is learned of logits [n, classes]: half the label, half their softmax at a moderate scale.

    Logits may be huge, or pinned to make their differences useless: the label is what counts.
    """
    centred = torch.nan_to_num(logits - logits.mean(1, keepdim=True))
    scale = centred.amax(1).median().clamp_min(torch.finfo(logits.dtype).tiny)
    label = functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)
    return (label + (_SPREAD * centred / scale).softmax(1)) / 2


def _first_points(x: Tensor, ball: Ball, generators: Sequence[torch.Generator]) -> list[Tensor]:
    """The inputs, mixtures of two of them (one class turns into another on the way), and corners."""
    points, flat = [x], x.flatten(0, 1)
    for turn in range(1, FIRST):
        if turn % 3 == 0:
            points.append(ball.random_sign(generators))
            continue
        share = torch.stack([torch.rand((x.shape[1], 1, 1, 1), generator=g) for g in generators]).to(x)
        points.append(torch.lerp(x, flat.roll(turn, 0).view_as(x), share))
    return points


def _near(x: Tensor, end: Tensor, ball: Ball, generators: Sequence[torch.Generator]) -> Tensor:
    """Points of the ball beside ``end``: some of the way to it, with a quarter of it turned round."""
    turned = torch.stack([torch.rand(x.shape[1:], generator=g) for g in generators]).to(x) < 0.25
    share = torch.stack([torch.rand((x.shape[1], 1, 1, 1), generator=g) for g in generators]).to(x)
    away = (0.3 + 0.7 * share) * (end - x)
    return ball.project_(x + torch.where(turned, -away, away))
