"""k-winners-take-all: only the largest activations of a layer survive (arXiv 1905.10510)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.changed_layers import ChangedLayers
from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Enhancing Adversarial Defense by k-Winners-Take-All",
    arxiv="1905.10510",
    section="2",
    year=2020,
    random="",
    coupling="",
    claim="more accuracy under PGD on CIFAR-10 and SVHN at linf 8/255 than ReLU, whatever the training",
    setting="the largest 20% of what every layer but the first is given",
    untrained="on a network trained with ReLU",
    breaks=(("2002.08347", "close to 0% on CIFAR-10, by attacks that smooth the jumps of the loss"),),
)
SHARE = 0.2


class KWinnersTakeAll(Deterministic):
    """Keeps the largest fifth of each layer's inputs, for every example by itself."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.sparse = ChangedLayers(model, winners, skip_first=True)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.sparse(x, 0)


def winners(a: Tensor, generator: torch.Generator | None = None, layer: int = 0) -> Tensor:
    """Activations [k, ...] with all but the largest ``SHARE`` of each example set to 0."""
    flat = a.flatten(1)
    kept = max(1, round(SHARE * flat.shape[1]))
    least = flat.topk(kept, dim=1).values[:, -1:]
    return (flat * (flat >= least)).view_as(a)


def build(model: nn.Module) -> KWinnersTakeAll:
    return KWinnersTakeAll(model)
