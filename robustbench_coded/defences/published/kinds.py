"""What defences of this folder share: their attributes, and seeds as draws."""

import torch
from torch import nn


class Deterministic:
    """Has no randomness and answers every input by itself."""

    name = ""
    randomised = False
    batch_dependent = False
    base: nn.Module | None

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None


class Seeded:
    """A draw is the seed of a CPU generator of its own, so it is the same on every device."""

    name = ""
    randomised = True
    batch_dependent = False
    base: nn.Module | None

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))
