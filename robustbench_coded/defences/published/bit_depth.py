"""Bit-depth reduction: pixels rounded to three bits (arXiv 1711.00117)."""

from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Countering Adversarial Images using Input Transformations",
    arxiv="1711.00117",
    section="4",
    year=2018,
    random="",
    coupling="",
    claim="on ImageNet, its strongest transformation eliminates 60% of grey-box and 90% of black-box attacks",
    setting="three bits a pixel",
    untrained="on a network that was not trained on such images",
    breaks=(("1802.00420", "0% on ImageNet at a root-mean-square distance of 0.005"),),
)
BITS = 3


class BitDepth(Deterministic):
    """Rounds every pixel to a multiple of 1/7."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(rounded(x, BITS))


def rounded(x: Tensor, bits: int) -> Tensor:
    """Pixels in [0, 1] rounded to ``bits`` bits."""
    steps = 2**bits - 1
    return (x * steps).round() / steps


def build(model: nn.Module) -> BitDepth:
    return BitDepth(model)
