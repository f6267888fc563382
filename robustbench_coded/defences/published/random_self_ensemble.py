"""Random self-ensemble: noise before every layer, probabilities averaged over passes (arXiv 1712.00673)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.changed_layers import ChangedLayers
from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Towards Robust Neural Networks via Random Self-ensemble",
    arxiv="1712.00673",
    section="3",
    year=2018,
    random="Gaussian noise on the input of every layer, anew in each of ten passes",
    coupling="",
    claim="86% on CIFAR-10 (VGG) under C&W within a stated distortion, where an undefended network keeps 10%",
    setting="deviations 0.2 before the first layer, then 0.1; 10 passes",
    untrained="around a network that was not trained with noise",
)
FIRST, INNER = 0.2, 0.1  # deviations of the noise
PASSES = 10


class RandomSelfEnsemble(Seeded):
    """Logits are logarithms of the mean probabilities of ``PASSES`` noisy passes."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.noisy = ChangedLayers(model, _noise, skip_first=False)

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * PASSES

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        copies = x.expand(PASSES, *x.shape).flatten(0, 1)
        answers = self.noisy(copies, draw).log_softmax(-1).unflatten(0, (PASSES, len(x)))
        return answers.logsumexp(0) - torch.tensor(PASSES).log().item()


def _noise(a: Tensor, generator: torch.Generator, layer: int) -> Tensor:
    return a + (INNER if layer else FIRST) * torch.randn(a.shape, generator=generator).to(a)


def build(model: nn.Module) -> RandomSelfEnsemble:
    return RandomSelfEnsemble(model)
