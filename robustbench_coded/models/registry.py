"""Names of the architectures and of their variants, and what they are. This does not import torch."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from robustbench_coded.errors import InputError

# A part of every architecture: what happens to an image before its first layer. ``per-image`` subtracts each
# image's own mean and divides by its own deviation, as in arXiv 1812.02637; ``bgr`` puts its three channels
# in the order blue, green, red, as OpenCV reads images.
INPUT = "input"
PER_IMAGE = "per-image"
BGR = "bgr"


# A part of plain stacks: which of their activations a forward pass leaves out.
INACTIVE = "inactive"


def split_variant(arch: str) -> tuple[str, dict[str, str]]:
    """A name and the parts in its brackets, in order.

    Raises:
        InputError: brackets that hold something else.
    """
    name, bracket, inside = arch.partition("[")
    if not bracket:
        return arch, {}
    pairs = [pair.partition("=") for pair in inside.removesuffix("]").split(",")]
    parts = {part.strip(): form.strip() for part, _, form in pairs}
    if not inside.endswith("]") or len(parts) != len(pairs) or not all(p and f for p, f in parts.items()):
        raise InputError(f"architecture {arch!r}: expected NAME[part=form,part=form]")
    if parts.get(INPUT, BGR) not in (PER_IMAGE, BGR):
        raise InputError(f"architecture {arch!r}: expected {INPUT}={PER_IMAGE} or {INPUT}={BGR}")
    return name, parts


def join_variant(name: str, parts: Mapping[str, str | int]) -> str:
    """The text of a variant; the name alone where every part is as usual."""
    return f"{name}[{','.join(f'{part}={form}' for part, form in parts.items())}]" if parts else name


def changed(arch: str, part: str, form: str | int) -> str:
    """``arch`` with one part in that form."""
    name, parts = split_variant(arch)
    return join_variant(name, {**parts, part: str(form)})


def unchanged(arch: str, part: str) -> str:
    """``arch`` with one part as usual."""
    name, parts = split_variant(arch)
    return join_variant(name, {other: form for other, form in parts.items() if other != part})


@dataclass(frozen=True)
class Architecture:
    """One line of ``csrobust list models``.

    Attributes:
        name: as given to ``--arch``.
        description: what it is, and where it comes from.
        constructor: ``module:class`` inside ``models.architectures``.
        parameters: keyword arguments that make the class this architecture.
        pattern: regular expression of further names; its groups are integer keyword arguments.
        resolver: ``module:function`` beside the constructor's, for names that no expression describes: it
            answers the architecture of a name, or None.
        takes_image_size: whether it is made for one image size, which the name does not say.
        image_size: height and width in pixels that the name says; None where it says none.
        stochastic: how its activation samples in every answer; None where nothing does.
        variants: the parts that leave no trace in its weights: by keyword argument of the class, the forms
            that published networks have beside its default. ``variants.py`` names and enumerates them.
    """

    name: str
    description: str
    constructor: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pattern: str | None = None
    resolver: str | None = None
    takes_image_size: bool = False
    image_size: int | None = None
    stochastic: str | None = None
    variants: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)


# Names alone: importing the functions would import torch.
BESIDE_RELU = (
    "leaky-relu", "leaky-relu-0.1", "leaky-relu-0.2", "silu", "gelu", "gelu-tanh", "quick-gelu", "softplus",
    "softplus-10", "elu", "selu", "mish", "hardswish", "relu6", "tanh", "sigmoid", "square",
)  # fmt: skip
PREACT = {"activation": BESIDE_RELU, "shortcut": ("raw",), "identity": ("active",)}
STEM = {"stem": ("stride-2", "max-pool")}


CIFAR_OPTION_A = {
    "activation": BESIDE_RELU,
    "after_sum": ("raw",),
    "residual": ("identities", "none"),
    "subsampling": ("stride-odd", "mean", "mean-3", "max"),
    "new_channels": ("behind", "before", "repeat"),
}

BESIDE_SILU = {
    "activation": ("relu", *(name for name in BESIDE_RELU if name != "silu")),
}


def _projected(option: str, where: str) -> Architecture:
    return Architecture(
        f"resnet20-{option}",
        f"CIFAR ResNet-20 with 1x1 convolutions as shortcuts {where}, option {option.upper()}; any "
        f"resnetDEPTH-{option}",
        "resnet_cifar:ResNetCifar",
        {"option": option},
        pattern=rf"resnet(?P<depth>\d{{1,4}})-{option}",
        variants={"activation": BESIDE_RELU, "after_sum": ("raw",)},
    )


_ARCHITECTURES = (
    Architecture(
        "digits-cnn",
        "three small convolutions for 8x8 digits",
        "digits_cnn:DigitsCNN",
        variants={"activation": BESIDE_RELU, "pooling": ("max",)},
    ),
    *(
        Architecture(
            f"resnet{depth}",
            f"CIFAR ResNet-{depth} of He et al. 2015, shortcuts of option A (arXiv 1512.03385)",
            "resnet_cifar:ResNetCifar",
            {"depth": depth},
            variants=CIFAR_OPTION_A,
        )
        for depth in (20, 32, 44, 56)
    ),
    Architecture(
        "preact-resnet18",
        "PreActResNet-18 of He et al. 2016 (arXiv 1603.05027), five blocks",
        "resnet:PreActResNet18",
        variants={**STEM, **PREACT},
    ),
    Architecture(
        "preact-resnet18-bn",
        "PreActResNet-18 with a batch-norm before the pooling, as most robust checkpoints have it",
        "resnet:PreActResNet18",
        {"final_bn": True},
        variants={**STEM, **PREACT},
    ),
    *(
        Architecture(
            f"resnet{depth}",
            f"ResNet-{depth} with a 3x3 stem for small images (names of weights: shortcut, linear)",
            "resnet:ResNet",
            {"depth": depth},
            variants={
                **STEM,
                "activation": BESIDE_RELU,
                "after_sum": ("raw",),
                **({"stride_at": ("conv1",)} if depth == 50 else {}),
            },
        )
        for depth in (18, 34, 50)
    ),
    Architecture(
        "wrn-28-10",
        "wide ResNet of Zagoruyko & Komodakis 2016 (arXiv 1605.07146); any wrn-DEPTH-WIDTH",
        "wide_resnet:WideResNet",
        pattern=r"wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
        variants={**STEM, **PREACT},
    ),
    Architecture(
        "lwta-wrn-34-1",
        "wide ResNet, stochastic winner-takes-all activations (arXiv 2112.02671); any lwta-wrn-DEPTH-WIDTH",
        "wide_resnet:LwtaWideResNet",
        pattern=r"lwta-wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
        stochastic="of channels 2i and 2i + 1 one survives at each pixel, drawn anew in every answer",
    ),
    *(
        Architecture(
            f"torchvision-resnet{depth}",
            f"torchvision's ResNet-{depth} with ImageNet's 7x7 stem (names of weights: downsample, fc)",
            "torchvision_resnet:TorchvisionResNet",
            {"depth": depth},
        )
        for depth in (18, 34, 50, 101)
    ),
    Architecture(
        "torchvision-wide-resnet50-2",
        "torchvision's wide ResNet-50-2 (arXiv 1605.07146) with ImageNet's 7x7 stem",
        "torchvision_resnet:TorchvisionResNet",
        {"depth": 50, "width_per_group": 128},
    ),
    Architecture(
        "dm-wrn-28-10",
        "wide ResNet of Gowal et al. 2020 (arXiv 2010.03593), with SiLU; any dm-wrn-DEPTH-WIDTH",
        "deepmind_resnet:DMWideResNet",
        pattern=r"dm-wrn-(?P<depth>\d{1,3})-(?P<width>\d{1,3})",
        variants=BESIDE_SILU,
    ),
    *(
        Architecture(
            f"dm-preact-resnet{depth}",
            f"pre-activation ResNet-{depth} of Gowal et al. 2020 (arXiv 2010.03593), with SiLU",
            "deepmind_resnet:DMPreActResNet",
            {"depth": depth},
            variants=BESIDE_SILU,
        )
        for depth in (18, 34)
    ),
    Architecture(
        "wrn-34-r",
        "wide ResNet-34 with fewer channels in its last stage, of Huang et al. 2021 (arXiv 2110.03825)",
        "wide_resnet:RobustWideResNet",
        variants={"activation": BESIDE_RELU},
    ),
    Architecture(
        "wrn-a4",
        "WRN-A4 of Huang et al. 2022 (arXiv 2212.11005), with SiLU",
        "wide_resnet:RobustWideResNet",
        {"depths": (27, 28, 13), "planes": (160, 448, 384), "activation": "silu", "named_2022": True},
        variants=BESIDE_SILU,
    ),
    Architecture(
        "sequential-28-c16k4-a-c32k4-a-f1568-l100-a-l",
        "a plain stack of layers (names of weights: 0.weight, 2.weight), as its shapes have it",
        "sequential:Sequential",
        resolver="sequential_names:resolve",
        variants={"activation": BESIDE_RELU},
    ),
    Architecture(
        "vit-4-192-6-3",
        "vision transformer (arXiv 2010.11929, timm's names of weights); any vit-PATCH-DIM-DEPTH-HEADS",
        "vit:VisionTransformer",
        pattern=r"vit-(?P<patch>\d{1,3})-(?P<dim>\d{1,4})-(?P<depth>\d{1,3})-(?P<heads>\d{1,3})",
        takes_image_size=True,
        variants={
            "heads": (1, 2, 3, 4, 6, 8, 12, 16),
            "activation": ("gelu-tanh", "quick-gelu", "relu", "silu"),
            "pooling": ("mean",),
        },
    ),
    _projected("b", "where the shape changes"),
    _projected("c", "in every block"),
    # After all names that its pattern would take from others.
    Architecture(
        "resnet110",
        "CIFAR ResNet-110, shortcuts of option A (arXiv 1512.03385); any resnetDEPTH of depth 6 n + 2",
        "resnet_cifar:ResNetCifar",
        pattern=r"resnet(?P<depth>\d{1,4})",
        variants=CIFAR_OPTION_A,
    ),
)


MODELS: dict[str, Architecture] = {architecture.name: architecture for architecture in _ARCHITECTURES}


def find(arch: str) -> tuple[Architecture, dict[str, Any]]:
    """The architecture that ``arch`` names, and the keyword arguments that the name stands for.

    A variant stands in brackets: ``resnet20[activation=silu,new_channels=behind]``.

    Raises:
        InputError: nothing has that name, or it has no such variant.
    """
    name, parts = split_variant(arch)
    for architecture in MODELS.values():
        if architecture.resolver is not None:
            resolved = inside(architecture.resolver)(name, architecture)
            if resolved is not None:
                return resolved, {**resolved.parameters, **_forms(resolved, parts)}
        elif architecture.pattern is None:
            if name == architecture.name:
                return architecture, {**architecture.parameters, **_forms(architecture, parts)}
        elif match := re.fullmatch(architecture.pattern, name, re.ASCII):
            numbers = {group: int(value) for group, value in match.groupdict().items()}
            return architecture, {**architecture.parameters, **numbers, **_forms(architecture, parts)}
    if name.endswith(".py"):
        raise InputError(f"--arch {arch}: name the function in it that returns the network: {arch}:build")
    near = get_close_matches(name, MODELS, n=3, cutoff=0.4) or list(MODELS)[:3]
    raise InputError(
        f"unknown architecture {arch!r}; closest: {', '.join(near)}; `csrobust list models` prints them all, "
        "and --arch package.module:function takes one from your own code"
    )


def _forms(architecture: Architecture, parts: Mapping[str, str]) -> dict[str, str | int]:
    """The parts of a variant as keyword arguments."""
    forms: dict[str, str | int] = {}
    for part, form in parts.items():
        if part == INPUT:
            continue
        known = architecture.variants.get(part)
        if known is None:
            has = ", ".join([*architecture.variants, INPUT])
            raise InputError(f"{architecture.name} has no part {part!r} to choose; it has {has}")
        forms[part] = int(form) if all(isinstance(v, int) for v in known) and form.isdecimal() else form
    return forms


def inside(path: str) -> Any:
    """``module:name`` of the package of architectures."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"robustbench_coded.models.architectures.{module}"), name)
