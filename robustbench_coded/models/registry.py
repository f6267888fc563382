"""Names of the architectures, and what they are. This does not import torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from robustbench_coded.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """One line of ``csrobust list models``.

    Attributes:
        name: as given to ``--arch``.
        description: what it is, and where it comes from.
        constructor: ``module:class`` inside ``models.architectures``.
        parameters: keyword arguments that make the class this architecture.
        pattern: regular expression of further names; its groups are integer keyword arguments.
        image_size: height and width in pixels; None where it takes any.
        beside: end of the name of another published network whose weights have the same names and shapes;
            empty where none is known.
    """

    name: str
    description: str
    constructor: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pattern: str | None = None
    image_size: int | None = None
    beside: str = ""


_ARCHITECTURES = (
    Architecture("digits-cnn", "three small convolutions for 8x8 digits", "digits_cnn:DigitsCNN"),
    *(
        Architecture(
            f"resnet{depth}",
            f"CIFAR ResNet-{depth} of He et al. 2015, shortcuts of option A (arXiv 1512.03385)",
            "resnet:ResNetCifar",
            {"depth": depth},
        )
        for depth in (20, 32, 44, 56)
    ),
    Architecture(
        "preact-resnet18",
        "PreActResNet-18 of He et al. 2016 (arXiv 1603.05027), five blocks",
        "resnet:PreActResNet18",
        beside="-raw",
    ),
    Architecture(
        "preact-resnet18-raw",
        "the same, whose shortcuts see what is not activated",
        "resnet:PreActResNet18",
        {"raw": True},
    ),
    Architecture(
        "preact-resnet18-bn",
        "the same with a batch-norm before the pooling, as most robust ones have it",
        "resnet:PreActResNet18",
        {"final_bn": True},
    ),
    *(
        Architecture(
            f"resnet{depth}",
            f"ResNet-{depth} with a 3x3 stem for small images (names of weights: shortcut, linear)",
            "resnet:ResNet",
            {"depth": depth},
        )
        for depth in (18, 34, 50)
    ),
    Architecture(
        "wrn-28-10",
        "wide ResNet of Zagoruyko & Komodakis 2016 (arXiv 1605.07146); any wrn-DEPTH-WIDTH",
        "wide_resnet:WideResNet",
        pattern=r"wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
        beside="-per-image",
    ),
    Architecture(
        "wrn-28-4-per-image",
        "the same behind a standardisation of each image (arXiv 1812.02637); any wrn-DEPTH-WIDTH-per-image",
        "wide_resnet:WideResNet",
        {"per_image": True},
        r"wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})-per-image",
    ),
    Architecture(
        "lwta-wrn-34-1",
        "wide ResNet, stochastic winner-takes-all activations (arXiv 2112.02671); any lwta-wrn-DEPTH-WIDTH",
        "wide_resnet:LwtaWideResNet",
        pattern=r"lwta-wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
    ),
    *(
        Architecture(
            f"torchvision-{name}",
            f"torchvision's {title} with ImageNet's 7x7 stem (names of weights: downsample, fc)",
            "torchvision_resnet:TorchvisionResNet",
            {"depth": depth, "width_per_group": width},
        )
        for name, title, depth, width in (
            ("resnet18", "ResNet-18", 18, 64),
            ("resnet50", "ResNet-50", 50, 64),
            ("wide-resnet50-2", "wide ResNet-50-2 (arXiv 1605.07146)", 50, 128),
        )
    ),
    Architecture(
        "dm-wrn-28-10",
        "wide ResNet of Gowal et al. 2020 (arXiv 2010.03593), with SiLU; any dm-wrn-DEPTH-WIDTH",
        "deepmind_resnet:DMWideResNet",
        pattern=r"dm-wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
    ),
    Architecture(
        "dm-preact-resnet18",
        "pre-activation ResNet-18 of Gowal et al. 2020 (arXiv 2010.03593), with SiLU",
        "deepmind_resnet:DMPreActResNet",
    ),
    Architecture(
        "wrn-34-r",
        "wide ResNet-34 with fewer channels in its last stage, of Huang et al. 2021 (arXiv 2110.03825)",
        "wide_resnet:RobustWideResNet",
    ),
    Architecture(
        "wrn-a4",
        "WRN-A4 of Huang et al. 2022 (arXiv 2212.11005), with SiLU",
        "wide_resnet:RobustWideResNet",
        {"depths": (27, 28, 13), "planes": (160, 448, 384), "activation": "silu", "named_2022": True},
    ),
    *(
        Architecture(
            f"wong-kolter-{size}-{side}",
            f"Wong and Kolter's {size} network ({paper}) for {side}x{side} images",
            "wong_kolter:WongKolter",
            {"size": size, "side": side},
            image_size=side,
        )
        for size, paper in (("small", "arXiv 1711.00851"), ("large", "arXiv 1805.12514"))
        for side in (28, 32)
    ),
    # After all names that its pattern would take from others.
    Architecture(
        "resnet110",
        "CIFAR ResNet-110, shortcuts of option A (arXiv 1512.03385); any resnetDEPTH of depth 6 n + 2",
        "resnet:ResNetCifar",
        pattern=r"resnet(?P<depth>\d{1,4})",
    ),
)


MODELS: dict[str, Architecture] = {architecture.name: architecture for architecture in _ARCHITECTURES}


def find(arch: str) -> tuple[Architecture, dict[str, Any]]:
    """The architecture that ``arch`` names, and the keyword arguments that the name stands for.

    Raises:
        InputError: nothing has that name.
    """
    for architecture in MODELS.values():
        if architecture.pattern is None:
            if arch == architecture.name:
                return architecture, {**architecture.parameters}
        elif match := re.fullmatch(architecture.pattern, arch, re.ASCII):
            numbers = {group: int(value) for group, value in match.groupdict().items()}
            return architecture, {**architecture.parameters, **numbers}
    if arch.endswith(".py"):
        raise InputError(f"--arch {arch}: name the function in it that returns the network: {arch}:build")
    near = get_close_matches(arch, MODELS, n=3, cutoff=0.4) or list(MODELS)[:3]
    raise InputError(
        f"unknown architecture {arch!r}; closest: {', '.join(near)}; `csrobust list models` prints them "
        "all, and --arch file.py:build takes the network that a function of your own returns"
    )
