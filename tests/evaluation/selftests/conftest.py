"""A shipped network on digits, and liars around it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.selftests import Scene
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from tests.evaluation.conftest import Wrapper

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
EPS = 0.2
EXAMPLES = 32


class Plain(Wrapper):
    """A deterministic defence that answers inputs one by one, by a function of the batch."""

    def __init__(self, answer, base=None, name="plain"):
        self.answer, self.base, self.name = answer, base, name

    def logits(self, x, draw):
        return self.answer(x)


@dataclass
class World:
    model: nn.Module
    other: nn.Module
    x: torch.Tensor
    y: torch.Tensor

    def scene(self, defence, k=EXAMPLES, eps=EPS):
        """The first examples in batches of k; a function of pixels is taken for a deterministic defence."""
        defence = defence if hasattr(defence, "logits") else Plain(defence)
        groups = EXAMPLES // k
        batches = list(range(groups))
        return Scene(
            Target(defence, k, 0, batches),
            self.x.view(groups, k, *self.x.shape[1:]),
            self.y.view(groups, k),
            PerturbationBudget("linf", eps),
            defence.batch_dependent,
            [torch.Generator().manual_seed(batch) for batch in batches],
        )

    def with_slope_of(self, value, decoy):
        """The answers of ``value`` with the gradient of ``decoy``."""

        def answer(x):
            slope = decoy(x)
            return value(x).detach() + slope - slope.detach()

        return answer


def network(name):
    images, labels = load_digits("test").batch(range(EXAMPLES))
    return with_normalisation(load_checkpoint(CHECKPOINTS / f"{name}.safetensors"), images, labels)


@pytest.fixture(scope="session")
def world():
    x, y = load_digits("test").batch(range(EXAMPLES))
    return World(network("digits-erm"), network("digits-pgd-at"), x, y)


@pytest.fixture(scope="session")
def linear():
    weights = torch.randn(10, 64, generator=torch.Generator().manual_seed(0)) / 10
    return lambda x: x.flatten(1) @ weights.T
