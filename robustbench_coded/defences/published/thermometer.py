"""Thermometer encoding: pixels as unary codes of a few levels (Buckman and others, ICLR 2018)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Thermometer Encoding: One Hot Way To Resist Adversarial Examples",
    arxiv="ICLR 2018",
    section="3",
    year=2018,
    random="",
    coupling="",
    claim="79.16% on CIFAR-10 at linf 8/255 under white-box attacks, together with adversarial training",
    setting="15 levels; the network reads the mean of the code",
    untrained="it was not trained on codes",
    breaks=(("1802.00420", "0% on CIFAR-10 at linf 0.031 without adversarial training, 30% with it"),),
)
LEVELS = 15


class Thermometer(Deterministic):
    """The network sees how many of ``LEVELS`` thresholds a pixel exceeds, as a share of them."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(codes(x).mean(0))


def codes(x: Tensor) -> Tensor:
    """[LEVELS, *x.shape]: 1 where a pixel is above the level's threshold, else 0."""
    thresholds = (torch.arange(LEVELS).to(x) + 0.5) / LEVELS
    return (x > thresholds.view(-1, *[1] * x.ndim)).to(x)


def build(model: nn.Module) -> Thermometer:
    return Thermometer(model)
