"""A target small enough to know all answers: linear logits, whose weights a draw shifts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from attacks.estimators import FreshDraws


class Deterministic:
    """A target without chance or coupling, except where a subclass says so; a subclass has the logits."""

    randomised = coupled = False
    independent = True

    def draws(self, index: int) -> Sequence[None]:
        return [None]

    def images(self, x: Tensor) -> int:
        return x.shape[0] * x.shape[1]


def small_network(count: int, classes: int, *, side=6, scale=0.3, activation=torch.nn.Tanh, dtype=None):
    """A random network of one convolution, inputs ``[1, count, 3, side, side]`` and its labels of them."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 3, padding=1), activation(), torch.nn.Flatten()
    model = torch.nn.Sequential(*layers, torch.nn.Linear(8 * side**2, classes)).to(dtype)
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    x = torch.rand(1, count, 3, side, side, generator=generator, dtype=dtype)
    return model, x, model(x[0]).argmax(-1)[None].detach()


@dataclass
class LinearOracle:
    """logits = (weights + noise * shift of the draw) x, and ``mixing`` of the batch mean's logits.

    ``asked`` keeps the draws of every forward; a draw is (batch, index) and its shift follows from both.
    """

    weights: Tensor  # [classes, values]
    batches: int
    noise: float = 0.0
    mixing: float = 0.0
    expansion: float = 1.0  # coded images per image
    asked: list[list[tuple[int, int]]] = field(default_factory=list)

    @property
    def randomised(self) -> bool:
        return self.noise > 0

    @property
    def coupled(self) -> bool:
        return self.mixing != 0

    @property
    def independent(self) -> bool:
        return self.noise == 0 and self.mixing == 0

    def draws(self, index: int) -> Sequence[tuple[int, int]]:
        return [(g, index) for g in range(self.batches)]

    def shift(self, draw: tuple[int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * draw[0] + draw[1] + 7)
        return torch.randn(self.weights.shape, generator=generator).to(self.weights)

    def logits(self, x: Tensor, draws: Sequence[tuple[int, int]]) -> Tensor:
        assert len(draws) in (len(x), 1)
        self.asked.append(list(draws))
        rows = x.flatten(2)
        rows = rows + self.mixing * rows.mean(1, keepdim=True)
        if not self.randomised:
            return rows @ self.weights.T
        weights = torch.stack([self.weights + self.noise * self.shift(draw) for draw in draws])
        return rows @ weights.transpose(1, 2)

    def images(self, x: Tensor) -> int:
        return int(x.shape[0] * x.shape[1] * self.expansion)


@dataclass
class Problem:
    oracle: LinearOracle
    x: Tensor
    y: Tensor

    @property
    def generators(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(g) for g in range(len(self.x))]

    @property
    def slope(self) -> Tensor:
        """The constant gradient of the margin loss with two classes, in the shape of the inputs."""
        w = self.oracle.weights
        return torch.where((self.y == 0)[..., None], w[1] - w[0], w[0] - w[1]).view_as(self.x)

    def nearest(self, dual: float) -> Tensor:
        """``[G, K]``: the distance of the nearest wrong answer with two classes, by the norm dual to it."""
        logits = self.oracle.logits(self.x, self.oracle.draws(0))
        return (logits[..., 1] - logits[..., 0]).abs() / self.slope.flatten(2).norm(p=dual, dim=-1)

    def attacked(self, attack, budget, start=None, **options) -> Tensor:
        """The inputs perturbed under fresh draws; ``options`` are those of the estimator."""
        estimator = FreshDraws(self.oracle, **options)
        return attack.perturb(self.x, self.y, estimator, budget, self.generators, start)


@pytest.fixture
def linear() -> Callable[..., Problem]:
    """Builds a linear oracle with inputs in [0, 1], some of them near the edge of the box, and labels."""

    def build(
        batches: int = 1,
        k: int = 4,
        shape: tuple[int, int, int] = (3, 4, 5),
        classes: int = 2,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        **options: float,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        values = shape[0] * shape[1] * shape[2]
        weights = torch.randn(classes, values, generator=generator, dtype=dtype)
        # Each batch has its own numbers, whatever the number of batches.
        x = torch.stack(
            [
                torch.rand(k, *shape, generator=torch.Generator().manual_seed(seed + g), dtype=dtype)
                for g in range(batches)
            ]
        )
        x = (1.2 * x - 0.1).clamp(0, 1)
        oracle = LinearOracle(weights, batches, **options)  # type: ignore[arg-type]
        y = oracle.logits(x, oracle.draws(0)).argmax(-1)
        oracle.asked.clear()
        return Problem(oracle, x, y)

    return build
