"""The anti-adversary layer: inputs move to where the network is surer of its answer (arXiv 2103.14347)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Combating Adversaries with Anti-Adversaries",
    arxiv="2103.14347",
    section="3",
    year=2022,
    random="",
    coupling="",
    claim="more accuracy than the networks have without it on CIFAR-10 under AutoAttack at linf 8/255",
    setting="two steps of 0.15, as in the paper, on the given network",
    breaks=(("2202.13711", "no gain over the static network under an adaptive attack"),),
)
STEPS, STEP = 2, 0.15


class AntiAdversary(Deterministic):
    """Answers f(x + g), where g takes two signed steps down the loss of the network's own prediction."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * (STEPS + 2)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(x + self._moved(x))

    def _moved(self, x: Tensor) -> Tensor:
        """g, like x; signs have no slope, so the answer's gradient is the network's own at x + g."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone()
            g = torch.zeros_like(x)
            with torch.no_grad():
                predicted = self.model(x).argmax(-1)
            for _ in range(STEPS):
                g.requires_grad_()
                loss = functional.cross_entropy(self.model(x + g), predicted, reduction="sum")
                (slope,) = torch.autograd.grad(loss, g)
                g = (g - STEP * slope.sign()).detach()
        return g


def build(model: nn.Module) -> AntiAdversary:
    return AntiAdversary(model)
