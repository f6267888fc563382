"""Adaptive smoothing: mixes the probabilities of an accurate and a robust network (arXiv 2301.12554)."""

from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

RECORD = Record(
    title="Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing",
    arxiv="2301.12554",
    section="4",
    year=2023,
    random="",
    coupling="",
    claim="38.72% on CIFAR-100 at linf 8/255 under AutoAttack, 85.21% clean",
    setting="a fixed weight of 0.6 for a robust network that this package ships; none that chooses it",
)
ROBUST = 0.6  # weight of the robust network; from a half on, its margins can protect the mixture
SHIPPED = {1: "digits-pgd-at", 3: "cifar10-pgd-at-resnet20"}  # by channels


class AdaptiveSmoothing(Deterministic):
    """Logits are log(0.4 p + 0.6 q), p of the given network and q of the robust one."""

    def __init__(self, model: nn.Module, robust: nn.Module):
        self.base = model
        self.model = model
        self.robust = robust

    def images(self, k: int) -> int:
        """Images through a network for a batch of ``k``."""
        return 2 * k

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        mixed = (1 - ROBUST) * self.model(x).softmax(-1) + ROBUST * self.robust(x).softmax(-1)
        return mixed.clamp(min=1e-30).log()


def build(model: nn.Module) -> AdaptiveSmoothing:
    """Raises InputError where no robust network for these images is shipped."""
    channels, classes = getattr(model, "channels", None), getattr(model, "classes", None)
    if channels not in SHIPPED or classes != 10:
        raise InputError(
            f"published:adaptive-smoothing has a robust network for digits and CIFAR-10 alone, not for "
            f"images of {channels} channels and {classes} classes; give a checkpoint of one of these"
        )
    found = load_checkpoint(SHIPPED[channels])
    assert found.normalisation is not None
    device = next(model.parameters()).device
    mean, std = found.normalisation.mean, found.normalisation.std
    robust = PixelModel(found.network, mean, std, classes=found.classes, arch=found.arch).to(device)
    return AdaptiveSmoothing(model, robust)
