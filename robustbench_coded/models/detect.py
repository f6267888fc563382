"""Networks by the name of their architecture, and which one a state dict belongs to by names and shapes."""

import importlib
import inspect
import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models import registry
from robustbench_coded.models.refusal import (
    ONE_LOGIT,
    Refused,
    Shapes,
    Unrecognised,
    WeightDifference,
    compare,
    shapes_in,
)

ARCHITECTURES = "robustbench_coded.models.architectures"

# Where the architectures here keep the layer that tells the classes; others have it last.
HEADS = ("linear.weight", "fc.weight", "logits.weight")

# Families: the first convolution of each block in the first stage, and the name by depth and width: so many
# layers more than six for each of these blocks.
FAMILIES = (
    ("block1.layer.{}.conv1.weight", "wrn-{}-{}", 4),
    ("layer.0.block.{}.conv_0.weight", "dm-wrn-{}-{}", 4),
    ("layer1.{}.conv1.weight", "resnet{}", 2),
)
COMPETES = "block1.layer.0.lwta1.temp"  # in the files of a wide ResNet with winner-takes-all activations


@dataclass(frozen=True)
class Recognised:
    """An architecture with its parameters.

    Attributes:
        arch: a name that ``registry.find`` knows.
        classes: number of classes.
        channels: channels of the image.
        image_size: height and width in pixels; None where the network takes any.
        notes: what was recognised and why, a sentence each.
    """

    arch: str
    classes: int
    channels: int
    image_size: int | None
    notes: tuple[str, ...] = ()


def construct(
    arch: str,
    classes: int,
    in_channels: int = 3,
    *,
    dropout: float = 0.0,
) -> nn.Module:
    """The network without weights, on torch's meta device: for its names and shapes, or to load weights into.

    Args:
        arch: a name as in :data:`registry.MODELS`.
        classes: number of classes, at least 2.
        in_channels: channels of the image.
        dropout: probability after the second batch-norm of each block.
    Raises:
        InputError: unknown name, or numbers that the architecture does not take.
    """
    architecture, parameters = registry.find(arch)
    if classes < 2:
        raise InputError(f"{arch}: expected at least 2 classes, got {classes}")
    module, _, name = architecture.constructor.partition(":")
    constructor = getattr(importlib.import_module(f"{ARCHITECTURES}.{module}"), name)
    if dropout and "dropout" not in inspect.signature(constructor).parameters:
        raise InputError(f"{arch}: dropout has no place in this architecture; leave it at 0")
    if dropout:
        parameters["dropout"] = dropout
    with torch.device("meta"):
        try:
            return constructor(classes=classes, in_channels=in_channels, **parameters)
        except ValueError as error:
            raise InputError(f"{arch}: {error}") from None


@lru_cache(maxsize=64)
def shapes_of(arch: str, classes: int, channels: int) -> Shapes:
    """Names and shapes of an architecture's weights."""
    return shapes_in(construct(arch, classes, channels).state_dict())


def classes_of(shapes: Shapes) -> int | None:
    """Number of classes: rows of the head, or length of the last bias beside a matrix.

    The matrix is a linear layer, or a 1x1 convolution where a network has no linear one.
    """
    if heads := [shapes[name][0] for name in HEADS if len(shapes.get(name, ())) == 2]:
        return heads[0]
    for sides in ((), (1, 1)):
        layers = [name for name, shape in shapes.items() if len(shape) >= 2 and shape[2:] == sides]
        biases = [name.removesuffix("weight") + "bias" for name in layers if name.endswith("weight")]
        if lengths := [shapes[bias][0] for bias in biases if len(shapes.get(bias, ())) == 1]:
            return lengths[-1]
    return None


def channels_of(shapes: Shapes) -> int | None:
    """Channels of the image: 3 where a convolution takes 3, else the fewest that one takes."""
    inputs = {shape[1] for shape in shapes.values() if len(shape) == 4}
    return 3 if 3 in inputs else min(inputs, default=None)


def recognise(shapes: Shapes, arch: str | None = None, prefix: str = "") -> Recognised:
    """Finds the architecture whose weights have exactly these names and shapes.

    Args:
        shapes: names and shapes of the weights, without wrappers' prefixes.
        arch: only this one is tried; None for all that are known.
        prefix: what was taken off the names in the file, for messages.
    Raises:
        Refused: none fits; the closest are named with what differs.
        InputError: ``arch`` is not known.
    """
    if arch is not None:
        registry.find(arch)
    classes, channels = classes_of(shapes), channels_of(shapes)
    if classes is not None and classes < 2:
        raise Refused(f"its last layer answers {classes} class; {ONE_LOGIT}")
    candidates = [arch] if arch is not None else _candidates(shapes)
    differences = []
    for candidate in candidates:
        try:
            architecture = registry.find(candidate)[0]
            expected = shapes_of(candidate, classes or 10, channels or 3)
        except InputError as error:  # sizes that no such architecture has: another one fits, or none
            if arch is not None:
                raise Refused(str(error)) from None
            continue
        difference = compare(candidate, shapes, expected, prefix)
        if difference.count == 0 and classes is not None and channels is not None:
            if channels not in (1, 3):
                raise Refused(f"its {candidate} takes {channels} channels; images of 1 or 3 are evaluated")
            note = f"{candidate}: all {difference.expected} weights have its names and shapes"
            if arch is not None:
                note = f"{candidate} was given, and all {difference.expected} weights fit it"
            return Recognised(candidate, classes, channels, architecture.image_size, (note,))
        differences.append(difference)
    if arch and differences:
        raise Unrecognised(f"its weights are not those of {differences[0]}")
    raise Unrecognised(f"no known architecture has these weights{_nearest(differences, shapes, prefix)}")


FAR = 0.5  # share of the weights that differ from which on an architecture is not named


def _nearest(differences: list[WeightDifference], shapes: Shapes, prefix: str) -> str:
    """The architecture that shares most with the file, and the first place where the two part."""
    if not differences:
        return "; its sizes are not possible"
    nearest = min(differences, key=lambda difference: difference.share)
    if nearest.share < FAR:
        return f"; nearest is {nearest}"
    first = (f"{prefix}{name[:80]} {str(list(shape))[:60]}" for name, shape in list(shapes.items())[:3])
    return f"; none is near: it begins with {', '.join(first)}"


def _candidates(shapes: Shapes) -> list[str]:
    """Names that families derive from these shapes, and all architectures with one name."""
    derived = []
    for convolution, name, more in FAMILIES:
        blocks = next(number for number in itertools.count() if convolution.format(number) not in shapes)
        if blocks and (first := shapes[convolution.format(0)]):
            derived.append(name.format(6 * blocks + more, first[0] // 16))
    derived = [f"lwta-{name}" for name in derived if COMPETES in shapes] or derived
    fixed = [name for name, architecture in registry.MODELS.items() if architecture.pattern is None]
    return list(dict.fromkeys([*derived, *fixed]))
