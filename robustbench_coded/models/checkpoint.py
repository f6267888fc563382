"""A trained network as its file has it, and the data that it may be asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from robustbench_coded.data.dataset import BACKGROUND, WITH_BACKGROUND
from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.sequential_names import of_size
from robustbench_coded.models.normalisation import Normalisation


@dataclass(frozen=True)
class FileLayout:
    """How the weights lay in the file.

    Attributes:
        format: ``safetensors``, ``torch`` or ``torch (before 1.6)``.
        nbytes: size of the file.
        nesting: the entries that the weights lay under, from the outside.
        prefixes: what was taken off every name, from the outside.
        dropped: weights that the network does not use.
        dtypes: number of tensors by type.
        entries: single values beside the weights.
    """

    format: str
    nbytes: int
    nesting: tuple[str, ...]
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]
    dtypes: dict[str, int]
    entries: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, and what its file says about it.

    Attributes:
        name: as printed in tables.
        path: the file.
        sha256: of the file, in hexadecimal.
        arch: name of the architecture, or the ``package.module:function`` it was built by.
        arch_source: ``given`` by the user, ``stored`` in the file, or ``guessed`` from its weights. The name
            of a plain stack says nothing of strides, pooling and activation: they are guessed.
        classes: number of classes.
        channels: channels of the image, 1 or 3.
        image_size: height and width in pixels; None where the network takes any.
        network: takes normalised images; float32, on the CPU, in eval mode, its parameters frozen.
        metadata: what this project stored beside the weights; empty for files of others.
        normalisation: given or stored; None when it has to be guessed from labelled images.
        normalisation_source: ``given``, ``stored`` or ``guessed``.
        notes: what was recognised and why, a sentence each.
        layout: how the weights lay in the file.
    """

    name: str
    path: Path
    sha256: str
    arch: str
    arch_source: Literal["given", "stored", "guessed"]
    classes: int
    channels: int
    image_size: int | None
    network: nn.Module
    metadata: dict[str, Any]
    normalisation: Normalisation | None
    normalisation_source: Literal["given", "stored", "guessed"]
    notes: tuple[str, ...]
    layout: FileLayout


def check_data(checkpoint: Checkpoint, image_shape: Sequence[int], classes: int, data: str) -> None:
    """Refuses data that the checkpoint was not made for.

    Args:
        checkpoint: as loaded.
        image_shape: (channels, height, width) of the data.
        classes: number of classes of the data.
        data: name of the data, for messages.
    Raises:
        InputError: another number of classes or channels, or another image size where the checkpoint has one.
    """
    channels, height, width = image_shape
    mend = "choose the data it was trained on with --data"
    if checkpoint.classes == WITH_BACKGROUND and classes == WITH_BACKGROUND - 1:
        raise InputError(f"{checkpoint.path}: it {BACKGROUND}")
    if classes != checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: it answers {checkpoint.classes} classes, {data} has {classes}; {mend}"
        )
    if channels != checkpoint.channels:
        raise InputError(
            f"{checkpoint.path}: it takes {checkpoint.channels}-channel images, {data} has {channels}; {mend}"
        )
    expected = checkpoint.metadata.get("image_shape", [channels, height, width])[1:]
    if checkpoint.image_size is not None:
        expected = [checkpoint.image_size, checkpoint.image_size]
    if expected != [height, width]:
        other = of_size(checkpoint.arch, height) if height == width else None
        mend += f", or try --arch {other}" if other else ""
        raise InputError(
            f"{checkpoint.path}: it was made for {expected[0]}x{expected[1]} images, "
            f"{data} has {height}x{width}; {mend}"
        )
