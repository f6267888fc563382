"""Published defences against attackers who only ask: noise on the input, or on features."""

import torch
from torch import Tensor

from robustbench_coded.defences.inferences import standard_normal
from robustbench_coded.defences.protocol import Seeded, WrappedNetwork
from robustbench_coded.extras.published.activations import ChangedLayers
from robustbench_coded.extras.published.registry import PaperRecord

RANDOM_NOISE_DEFENCE = PaperRecord(
    about="Random noise defence: Gaussian noise on every query",
    title="Random Noise Defense Against Query-Based Black-Box Attacks",
    arxiv="2104.11470",
    section="3",
    year=2021,
    random="Gaussian noise on the input",
    claim="fewer successes of attacks by queries (NES, ZOO, Square, SignHunter) within a stated number of "
    "queries on CIFAR-10 and ImageNet; none about attackers who know the weights",
    setting="deviation 0.05",
    untrained="on a network that was not tuned with noise, as those of its RND-GF are",
)
ON_INPUT = 0.05


class RandomNoiseDefence(WrappedNetwork, Seeded):
    """The network's answer to the input plus small noise."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(x + ON_INPUT * standard_normal(draw, x.shape).to(x))


RANDOM_FEATURE_NOISE = PaperRecord(
    about="Random feature noise: Gaussian noise on hidden features",
    title="Understanding the Robustness of Randomized Feature Defense Against Query-Based Adversarial "
    "Attacks",
    arxiv="2310.00567",
    section="3",
    year=2023,
    random="Gaussian noise on the input of every layer but the first",
    claim="more accuracy than noise on the input under attacks by queries (Square, NES, SignHunt, RayS, "
    "HopSkipJump) on CIFAR-10 and ImageNet; none about attackers who know the weights",
    setting="a tenth of each layer's own deviation; the paper needs no training for it",
)
ON_FEATURES = 0.1


def noisy(a: Tensor, generator: torch.Generator, layer: int = 0) -> Tensor:
    """Activations [k, ...] of which each input's have noise in proportion to their own deviation."""
    deviation = a.detach().flatten(1).std(1).view(-1, *[1] * (a.ndim - 1))
    return a + ON_FEATURES * deviation * torch.randn(a.shape, generator=generator).to(a)


class RandomFeatureNoise(ChangedLayers, Seeded):
    """The network with noise before every layer but the first."""

    change = staticmethod(noisy)
