"""What a pair of twins is made of: a defence made of functions, and parameters drawn from a seed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.errors.twin_networks import Network, perturbed, trained
from robustbench_coded.data.named_sets import load_digits
from zoo.known import Known, Truth, exactly

EXAMPLES = 256
IN_BATCHES = 384  # three batches, which say little by themselves
DRAWS_OF_TRUTH = 40
Draw = Any


@dataclass
class Defended:
    """A defence made of functions.

    Attributes:
        answer: pixels and a draw -> logits.
        draws: generator and batch size -> a draw; None for nothing random.
    """

    name: str
    answer: Callable[[Tensor, Draw], Tensor]
    draws: Callable[[torch.Generator, int], Draw] | None = None
    batch_dependent: bool = False
    base: nn.Module | None = None
    copies: int = 1
    randomised: bool = field(init=False)

    def __post_init__(self) -> None:
        self.randomised = self.draws is not None

    def images(self, k: int) -> int:
        return k * self.copies

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return None if self.draws is None else self.draws(generator, k)

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        return self.answer(x, draw)


class Parameters(random.Random):
    """What a pair's parameters are drawn from, and its networks."""

    def __init__(self, kind: str, seed: int, *, fragile: bool):
        super().__init__(f"{kind} {seed}")  # the same for both of a pair
        self.kind, self.fragile = kind, fragile
        self.eps = round(self.uniform(0.09, 0.12), 3)
        self.widths = self.choice([(64,), (100,)])
        self.seed_of_network = self.randrange(10_000)

    def network(self, further: int = 0, *, at: float = 1.0, masked: float = 0.0) -> Network:
        """One of the networks of this defence, certified ``at`` so many eps (or fragile)."""
        seed = self.seed_of_network + further
        return trained(seed, round(at * self.eps, 4), fragile=self.fragile, widths=self.widths, masked=masked)

    def other(self, model: Network, **options: Any) -> Network:
        """The same weights in a network with roundings."""
        copy = Network(self.widths, **options)
        copy.load_state_dict(model.state_dict())
        copy.mask = model.mask
        return copy.requires_grad_(False).eval()

    def base(self) -> Network:
        """An undefended network, fragile whatever the defence is."""
        return trained(self.seed_of_network + 77, self.eps, fragile=True, widths=self.widths)

    def known(
        self,
        defence: Defended,
        models: Sequence[Network],
        *,
        right: float = 1.0,
        wider: float = 0.0,
        n: int = EXAMPLES,
    ) -> Known:
        """What follows for a defence that answers by one of ``models`` each time.

        Args:
            right: probability that a certified answer comes out.
            wider: how far the defence itself moves pixels, at most.
        """
        x, y = load_digits("test").batch(range(n))
        stands = torch.stack([model.certified(x, y, self.eps + wider) for model in models]).double()
        low = 0.0 if self.fragile else right * stands.mean().item()
        at = perturbed(list(models), x, y, self.eps)
        generator = torch.Generator().manual_seed(0)

        def accuracy(images: Tensor) -> float:
            batches = zip(images.split(128), y.split(128))
            hits = [
                (defence.logits(b, defence.sample(generator, len(b))).argmax(1) == c).double().sum().item()
                for b, c in batches
                for _ in range(DRAWS_OF_TRUTH if defence.randomised else 1)
            ]
            return sum(hits) / n / (DRAWS_OF_TRUTH if defence.randomised else 1)

        with torch.no_grad():
            clean, left = accuracy(x), accuracy(at)
        truth = Truth(low, max(low, left))
        return Known(defence, x, y, exactly(clean), lambda threat: truth)
