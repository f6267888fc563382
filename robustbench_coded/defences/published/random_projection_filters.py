"""Random projection filters: a part of the first layer's filters is drawn anew (Dong and Xu, CVPR 2023)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record
from robustbench_coded.errors import InputError

RECORD = Record(
    title="Adversarial Robustness via Random Projection Filters",
    arxiv="CVPR 2023",
    section="3",
    year=2023,
    random="a quarter of the filters of the first convolution, Gaussian",
    coupling="",
    claim="higher accuracy than adversarial training alone on CIFAR-10 and ImageNet under PGD and AutoAttack",
    setting="a quarter of the filters, where the paper has three quarters",
    untrained="around a network that was not trained with them",
)
SHARE = 1 / 4


class RandomProjectionFilters(Seeded):
    """The network with new filters in every answer, each with the norm of the one that it replaces."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model
        self.name_of_first, self.first = _first_convolution(model)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        filters = projected(self.first.weight, torch.Generator().manual_seed(draw))
        return functional_call(self.model, {f"{self.name_of_first}.weight": filters}, (x,))


def projected(filters: Tensor, generator: torch.Generator) -> Tensor:
    """Filters [channels, ...] of which the first ``SHARE`` are Gaussian, with the norms that they had."""
    count = max(1, round(SHARE * len(filters)))
    old = filters[:count].flatten(1)
    drawn = torch.randn(old.shape, generator=generator).to(old)
    drawn = drawn * old.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return torch.cat([drawn.view_as(filters[:count]), filters[count:]])


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and name:
            return name, layer
    raise InputError("the network has no convolution whose filters could be random; give one that has")


def build(model: nn.Module) -> RandomProjectionFilters:
    return RandomProjectionFilters(model)
