"""Stochastic activation pruning: activations survive by chance, large ones more often (arXiv 1803.01442)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.changed_layers import ChangedLayers
from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Stochastic Activation Pruning for Robust Adversarial Defense",
    arxiv="1803.01442",
    section="3",
    year=2018,
    random="which activations of every layer survive, drawn with replacement in proportion to their size",
    coupling="",
    claim="preserves the accuracy of pretrained networks on CIFAR-10 under gradient attacks better than none",
    setting="as many samples as a layer has activations (SAP-100), before every layer but the first",
    breaks=(("1802.00420", "0% on CIFAR-10 at linf 0.031, with gradients averaged over draws"),),
)
SAMPLES = 1.0  # drawn in each layer, as a share of its activations


class StochasticActivationPruning(Seeded):
    """An activation a_i is drawn with probability p_i = |a_i| / sum |a|; those never drawn become 0.

    The others are divided by the probability to be drawn at all, 1 - (1 - p_i)^r for r samples.
    """

    def __init__(self, model: nn.Module):
        self.base = model
        self.pruned = ChangedLayers(model, prune, skip_first=True)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.pruned(x, draw)


def prune(a: Tensor, generator: torch.Generator, layer: int = 0) -> Tensor:
    """Activations [k, ...] with those that were not drawn set to 0, the others scaled up."""
    flat = a.flatten(1)
    samples = max(1, round(SAMPLES * flat.shape[1]))
    p = flat.abs() / flat.abs().sum(1, keepdim=True).clamp(min=1e-12)
    at = torch.rand(len(flat), samples, generator=generator).to(flat)
    with torch.no_grad():
        drawn = torch.searchsorted(p.cumsum(1), at).clamp(max=flat.shape[1] - 1)
        kept = torch.zeros_like(flat).scatter_(1, drawn, 1.0) * (flat != 0)
    survives = -torch.expm1(samples * torch.log1p(-p.clamp(max=1 - 1e-6)))
    return (flat * kept / survives.clamp(min=1e-6)).view_as(a)


def build(model: nn.Module) -> StochasticActivationPruning:
    return StochasticActivationPruning(model)
