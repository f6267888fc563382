"""Coded training and other regularisers on tables and sequences: data, networks, one training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustbench_coded.errors import InputError
from robustbench_coded.training.recipes import Coded, Erm, Mixup, Moment, Recipe
from robustbench_coded.training.stages import Stages

TEST_SHARE = 1 / 3
# Set -> its rows. Digits: 64 brightnesses in a row, nothing known of their places. Digit-lines: the same
# images read line by line, sequences of 8 tokens with 8 numbers each.
SETS = {"breast-cancer": 569, "wine": 178, "digits": 1797, "digit-lines": 1797}


class Split(NamedTuple):
    """Rows as images of one pixel with a channel for each feature, as training takes them.

    Attributes:
        x, test_x: ``[n, features, 1, 1]``. y, test_y: ``[n]``.
        mean, deviation: of each feature over the training rows; 1 for a constant one.
        tokens: in how many tokens of equal length the features are read one after the other; 0 for a table.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: int
    tokens: int = 0


def split_of(name: str, seed: int) -> Split:
    """Two thirds of the rows to train on and one third to test on, every class in both.

    Raises:
        InputError: another name.
    """
    if name not in SETS:
        raise InputError(f"--sets {name}: no such data set; known: {', '.join(SETS)}")
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    lines = name == "digit-lines"
    loaded = getattr(datasets, f"load_{'digits' if lines else name.replace('-', '_')}")()
    table, labels = np.asarray(loaded.data, np.float32), np.asarray(loaded.target, np.int64)
    parts = train_test_split(table, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed)
    x, test_x, y, test_y = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    deviation = x.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return Split(
        x[:, :, None, None],
        y,
        test_x[:, :, None, None],
        test_y,
        tuple(x.mean(dim=0).tolist()),
        tuple(deviation.tolist()),
        int(labels.max()) + 1,
        8 if lines else 0,
    )


TRANSFORMER_WIDTH, HEADS, LAYERS = 32, 4, 2


class Transformer(nn.Module):
    """``[k, features, 1, 1]``, read as ``tokens`` tokens of equal length, to logits ``[k, classes]``.

    Raises:
        ValueError: the features do not divide into that many tokens.
    """

    def __init__(self, features: int, tokens: int, classes: int):
        super().__init__()
        if features % tokens:
            raise ValueError(f"expected tokens to divide {features} features, got {tokens}")
        self.embed = _Embedding(features // tokens, tokens)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                TRANSFORMER_WIDTH, HEADS, 2 * TRANSFORMER_WIDTH, dropout=0, batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.head = _Head(classes)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The layers, whose composition is the network."""
        return [self.embed, *self.layers, self.head]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return x


class _Embedding(nn.Module):
    """Tokens as vectors, with a learned one added for each position."""

    def __init__(self, length: int, tokens: int):
        super().__init__()
        self.tokens = tokens
        self.linear = nn.Linear(length, TRANSFORMER_WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, TRANSFORMER_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.linear(x.reshape(len(x), self.tokens, -1)) + self.position
        return embedded


class _Head(nn.Module):
    """The mean over tokens, normalised, to logits."""

    def __init__(self, classes: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(TRANSFORMER_WIDTH), nn.Linear(TRANSFORMER_WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(x.mean(dim=1)))
        return logits


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
