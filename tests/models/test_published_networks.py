"""Architectures of published robust networks against facts that are not ours.

The logits below were measured on the definitions of the package robustbench 1.1.1, with weights that a sine
gives; ``benchmarks/networks/robustbench_zoo.py`` compares all of its definitions where that package is
installed.
"""

import pytest
import torch

from robustbench_coded.models.architectures.deepmind_resnet import DMWideResNet
from robustbench_coded.models.architectures.resnet import PreActResNet18
from robustbench_coded.models.architectures.wide_resnet import RobustWideResNet, WideResNet
from robustbench_coded.paper.training.fresh import build


def filled(network):
    """Every weight a sine of its place: the same in any version of torch."""
    with torch.no_grad():
        for number, (name, tensor) in enumerate(sorted(network.state_dict().items())):
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7 + number).view(
                tensor.shape
            )
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.5 * wave)
            elif tensor.ndim == 1:
                tensor.copy_((0.8 if name.endswith("weight") else 0.0) + 0.2 * wave)
            elif tensor.is_floating_point():
                tensor.copy_(wave * (2 / tensor[0].numel()) ** 0.5)
    return network.eval()


def images():
    wave = torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) * 0.37)
    return ((wave + 1) / 2).view(2, 3, 32, 32).float()


SMALL = {"depths": (2, 1, 2), "planes": (32, 48, 24)}

MEASURED = {
    "dm-wrn-10-1": (
        lambda: DMWideResNet(depth=10, width=1),
        [-1.7575, -3.71296, -3.29978, -0.768476],
        [-1.7216, -3.65016],
    ),
    "dm-preact-resnet18": (
        lambda: build("dm-preact-resnet18", 10),
        [103721.0, 91413.9, 73034.8, 49804.9],
        [102551.0, 90384.3],
    ),
    "robust": (
        lambda: RobustWideResNet(**SMALL),
        [23.6357, -1.20004, -22.7277, 22.2782],
        [23.8684, -1.12587],
    ),
    "a4": (
        lambda: RobustWideResNet(**SMALL, activation="silu", named_2022=True),
        [1.29931, -0.272091, -0.674525, 1.38378],
        [1.29883, -0.266483],
    ),
    "wrn-10-2": (
        lambda: WideResNet(depth=10, width=2),
        [-1.82449, -16.4712, 4.27959, 16.1383],
        [-1.89238, -16.3742],
    ),
    "preact raw": (lambda: PreActResNet18(raw=True), [38.9921, 178.352, 305.855, 412.979], [43.058, 183.485]),
    "preact bn active": (
        lambda: PreActResNet18(final_bn=True),
        [121974.0, 107067.0, 85048.6, 57381.3],
        [119904.0, 105226.0],
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_logits_are_those_of_the_published_definitions(name):
    make, first, second = MEASURED[name]
    with torch.no_grad():
        logits = filled(make())(images())
    torch.testing.assert_close(logits[0, :4], torch.tensor(first), rtol=2e-4, atol=0.0)
    torch.testing.assert_close(logits[1, :2], torch.tensor(second), rtol=2e-4, atol=0.0)
