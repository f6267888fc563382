"""GWAD (arXiv 2503.02986) around a checkpoint: ``--defence benchmarks/networks/gwad.py:build``.

Source: the abstract, and what the authors' code does (jpark04-qub/GWAD, 057ba60). Left out: its screen of
edges (GWAD+), so that every query counts. Their detector's weights (``model/delta/delta_ann.pt``) are read
from ``GWAD_WEIGHTS``; they are never committed. Inputs are images of 32 x 32 pixels in colour.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published.answers import with_reject

STD = (0.247, 0.243, 0.261)  # of channels: queries are compared after normalisation
WINDOW, BINS = 256, 200  # similarities in a histogram, and its bins from -1 to 1; 1 itself is one more
WIDTHS = (BINS + 1, 512, 512, 256, 128, 64, 7)  # of the detector; its class 0 is benign


class Gwad(WrappedNetwork, Deterministic):
    """Rejects where the detector names an attack from the similarities of the last changes of the query."""

    name = "gwad"
    batch_dependent = True
    remembers = True

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]):
        super().__init__(model)
        self.weights = weights
        self.abstain: Any = model.classes
        self.reset()

    def reset(self) -> None:
        """Forgets every query."""
        self.queries, self.similarities = torch.zeros(0), torch.zeros(0)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, 3, 32, 32] in [0, 1] -> [k, classes + 1]; the last rejects."""
        queries = torch.cat([self.queries.to(x).view(-1, *x.shape[1:]), x.detach()])
        self.queries, found = queries[-2:], similarities(queries)
        seen = torch.cat([self.similarities.to(x), found])
        self.similarities = seen[-WINDOW:]
        excess = torch.full((len(x),), -1.0, device=x.device)
        if len(seen) >= WINDOW:
            windows = seen.unfold(0, WINDOW, 1)[-len(found) :]
            excess[-len(windows) :] = self._excess(histograms(windows))
        return with_reject(self.model(x), excess)

    def _excess(self, a: Tensor) -> Tensor:
        """By how much the likeliest attack exceeds the benign class [n], of histograms [n, BINS + 1]."""
        for layer in range(1, len(WIDTHS)):
            weight, bias = (self.weights[f"fc{layer}.{part}"].to(a) for part in ("weight", "bias"))
            a = functional.linear(a, weight, bias).relu()
        return a[:, 1:].amax(1) - a[:, 0]


def similarities(queries: Tensor) -> Tensor:
    """Cosines [n - 2] between each change of the query [n, C, H, W] and the next one; 0 where one is none."""
    changes = (queries / torch.tensor(STD).to(queries).view(1, -1, 1, 1)).diff(dim=0).flatten(1)
    changes = functional.normalize(changes - changes.mean(1, keepdim=True))
    return (changes[:-1] * changes[1:]).sum(1)


def histograms(windows: Tensor) -> Tensor:
    """Counts [n, BINS + 1] of similarities [n, WINDOW], of which the least becomes 0 and the largest 1."""
    bins = ((windows + 1) / (2 / BINS) + 1e-4).long().clamp(0, BINS)  # rounding must not move an edge
    counts = torch.zeros(len(windows), BINS + 1).to(windows).scatter_add(1, bins, torch.ones_like(windows))
    least, most = counts.amin(1, keepdim=True), counts.amax(1, keepdim=True)
    return (counts - least) / (most - least)


def build(model: nn.Module) -> Gwad:
    """Raises InputError where the weights are not there."""
    path = Path(os.environ.get("GWAD_WEIGHTS", "delta_ann.pt"))
    if not path.is_file():
        raise InputError(f"GWAD_WEIGHTS: {path} is no file; give model/delta/delta_ann.pt of its authors")
    return Gwad(model, torch.load(path, map_location="cpu", weights_only=True))
