"""What generated images are measured by: a network that is named, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.generation.classifier import Classifier
from robustbench_coded.generation.inception import Inception

INCEPTION = "inception:"


class Network(Protocol):
    """Attributes:
    name: as reports name it, with the hash of its file.
    inception: whether its figures are FID and IS.
    published: whether its file is the published one of that network.
    at_once: images of one forward.
    """

    name: str
    inception: bool
    published: bool
    at_once: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, d] and what ``score`` takes of images [n, C, S, S] in [0, 1], on the CPU."""
        ...

    def score(self, answers: np.ndarray) -> float:
        """The inception score of answers [n, ...]."""
        ...


def network_named(text: str, data: Dataset, device: torch.device) -> Network:
    """``inception:FILE`` or a checkpoint of a classifier made for ``data``.

    Raises:
        InputError: the file can't be used.
    """
    if text.startswith(INCEPTION):
        return Inception(Path(text.removeprefix(INCEPTION)), device)
    return Classifier(text, data, device)


def answers(
    network: Network, images: Tensor, seen: Callable[[int], None] = lambda count: None
) -> tuple[np.ndarray, np.ndarray]:
    """Features and answers of all images; ``seen`` is told after each forward how many it had."""
    features, found = [], []
    for chunk in images.split(network.at_once):
        one, other = network(chunk)
        features.append(one)
        found.append(other)
        seen(len(chunk))
    return torch.cat(features).numpy(), torch.cat(found).numpy()
