"""Accuracy and loss of a network on unperturbed images."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from robustbench_coded.data.dataset import Dataset

_BATCH = 500


class Score(NamedTuple):
    accuracy: float  # in [0, 1]
    loss: float  # mean cross-entropy, nats


@torch.no_grad()
def measure(network: nn.Module, data: Dataset, device: torch.device) -> Score:
    """Scores ``network`` in evaluation mode on all of ``data``, and leaves it in the mode it was in."""
    was_training = network.training
    network.eval()
    right, loss = 0, 0.0
    for start in range(0, len(data), _BATCH):
        x, y = (t.to(device) for t in data.batch(range(start, min(start + _BATCH, len(data)))))
        logits = network(x).float()
        right += int((logits.argmax(1) == y).sum())
        loss += float(cross_entropy(logits, y, reduction="sum"))
    network.train(was_training)
    return Score(right / len(data), loss / len(data))
