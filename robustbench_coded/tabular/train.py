"""Trains one small network on one table, or on sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustbench_coded.tabular.data import Split
from robustbench_coded.tabular.transformer import Transformer
from robustbench_coded.training.recipes.coded import Coded
from robustbench_coded.training.recipes.erm import Erm
from robustbench_coded.training.recipes.mixup import Mixup
from robustbench_coded.training.recipes.recipe import Moment, Recipe
from robustbench_coded.training.stages import Stages

WIDTH, BATCH, STEPS, RATE = 64, 32, 600, 1e-3


@dataclass(frozen=True)
class Setting:
    """One way of training: a recipe and a weight decay, as AdamW has it."""

    name: str
    recipe: Recipe
    weight_decay: float = 0.0


# Chosen before any of them was run; none is chosen by its results.
SETTINGS = (
    Setting("erm", Erm()),
    Setting("weight decay 0.1", Erm(), 0.1),
    Setting("weight decay 1", Erm(), 1.0),
    Setting("mixup 0.2", Mixup(0.2)),
    Setting("mixup 1", Mixup(1.0)),
    Setting("coded mu=0.5", Coded()),
    Setting("coded mu=0.25", Coded(mu=0.25)),
)
BASELINE = SETTINGS[0].name


class Result(NamedTuple):
    """On the test rows: accuracy, and cross-entropy in nats."""

    accuracy: float
    loss: float


class Perceptron(nn.Module):
    """Two hidden layers; rows ``[k, features, 1, 1]`` to logits ``[k, classes]``."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Flatten(), nn.Linear(features, WIDTH), nn.ReLU()),
                nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()),
                nn.Linear(WIDTH, classes),
            ]
        )

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The layers, whose composition is the network."""
        return list(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def network_for(split: Split) -> nn.Module:
    """A Transformer for sequences, otherwise a perceptron; begun by torch's global generator."""
    features = split.x.shape[1]
    if split.tokens:
        return Transformer(features, split.tokens, split.classes)
    return Perceptron(features, split.classes)


def trained(setting: Setting, split: Split, seed: int, *, steps: int = STEPS) -> Result:
    """Trains for ``steps`` batches and tests once; equal seeds share first weights and batches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = network_for(split)
    stages = Stages(network, split.mean, split.deviation)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=setting.weight_decay)
    order = torch.Generator().manual_seed(2**20 + seed)
    random = torch.Generator().manual_seed(2**21 + seed)
    batch = min(BATCH, len(split.x))
    a_pass = len(split.x) // batch
    epochs = -(-steps // a_pass)
    for step in range(steps):
        if step % a_pass == 0:
            rows = torch.randperm(len(split.x), generator=order)
        chosen = rows[step % a_pass * batch :][:batch]
        moment = Moment(step // a_pass, epochs, random)
        loss = setting.recipe(stages, split.x[chosen], split.y[chosen], moment)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        logits = stages(split.test_x)
    right = (logits.argmax(dim=1) == split.test_y).double().mean()
    return Result(float(right), float(cross_entropy(logits, split.test_y)))
