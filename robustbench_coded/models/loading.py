"""From a checkpoint file to a Model: the one way in for `eval`, `inspect` and everything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from robustbench_coded.errors import InputError
from robustbench_coded.models import registry
from robustbench_coded.models.archive import read_archive
from robustbench_coded.models.detect import Recognised, recognise
from robustbench_coded.models.guessing import guess_normalisation
from robustbench_coded.models.libraries.load import is_library
from robustbench_coded.models.libraries.load import load as load_from_library
from robustbench_coded.models.metadata import plain_entries, read_metadata, stored_normalisation
from robustbench_coded.models.normalisation import (
    KNOWN,
    Normalisation,
    NormalisationChoice,
    parse_normalisation,
)
from robustbench_coded.models.per_image import PerImage
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.plugin_architecture import channels_in, classes_in, load_plugin
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import StateDict, read_state_dict
from robustbench_coded.models.variants import INPUT, split_variant


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
    classes: int
    channels: int
    image_size: int | None
    network: nn.Module
    metadata: dict[str, Any]
    normalisation: Normalisation | None
    normalisation_source: Literal["given", "stored", "guessed"]
    notes: tuple[str, ...]
    layout: FileLayout


def load_checkpoint(
    path: str | Path, *, arch: str | None = None, normalize: str | None = None, name: str | None = None
) -> Checkpoint:
    """Reads a checkpoint, finds its architecture, puts the weights into it; executes nothing in the file.

    Args:
        path: a ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file.
        arch: a name of ``csrobust list models``, or ``package.module:function`` in the user's own code; None
            to recognise it.
        normalize: as for ``--normalize``; None to take what the file says.
        name: for tables; None for the file's name without its ending.
    Raises:
        InputError: the file cannot be used, in one line that names it.
    """
    archive = read_archive(path)
    try:
        metadata = read_metadata(archive)
        weights = read_state_dict(archive.contents, archive.nbytes)
        stated = None
        if arch is not None and is_library(arch):
            found, network, normalises_itself, stated = load_from_library(
                arch, weights, archive.path, metadata
            )
        elif arch is not None and ":" in arch:
            found, network, normalises_itself = _plugin(arch, weights, metadata)
        else:
            found, network, normalises_itself = *_known(arch, weights, metadata), False
        normalisation, source, notes = _normalisation(
            normalize, found.channels, metadata, weights, normalises_itself, stated
        )
    except Refused as refused:
        raise InputError(f"{archive.path}: {refused}") from None
    return Checkpoint(
        name=name if name is not None else archive.path.stem,
        path=archive.path,
        sha256=archive.sha256,
        arch=found.arch,
        classes=found.classes,
        channels=found.channels,
        image_size=found.image_size,
        network=network.eval().requires_grad_(False),
        metadata=metadata,
        normalisation=normalisation,
        normalisation_source=source,
        notes=found.notes + notes,
        layout=FileLayout(
            archive.format,
            archive.nbytes,
            weights.nesting,
            weights.prefixes,
            weights.dropped,
            weights.dtypes,
            plain_entries(archive),
        ),
    )


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
        raise InputError(
            f"{checkpoint.path}: it was made for {expected[0]}x{expected[1]} images, "
            f"{data} has {height}x{width}; {mend}"
        )


def with_normalisation(
    checkpoint: Checkpoint, images: Tensor, labels: Tensor
) -> tuple[PixelModel, NormalisationChoice]:
    """The checkpoint as a Model from pixels to logits, and the normalisation it has inside.

    Args:
        checkpoint: as loaded; its network is shared with the Model.
        images: (n, channels, height, width) in [0, 1]; of these the first 512 are read, and only where the
            normalisation has to be guessed.
        labels: (n,) int64.
    Raises:
        InputError: the images or labels are not of the checkpoint's channels or classes.
    """
    if checkpoint.normalisation is not None:
        known = checkpoint.normalisation
        choice = NormalisationChoice(known.name, known.mean, known.std, checkpoint.normalisation_source)
    else:
        _check_examples(checkpoint, images, labels)
        choice = guess_normalisation(
            checkpoint.network, images, labels, classes=checkpoint.classes, arch=checkpoint.arch
        )
    model = PixelModel(
        checkpoint.network, choice.mean, choice.std, classes=checkpoint.classes, arch=checkpoint.arch
    )
    return model, choice


def _check_examples(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or images.shape[1] != checkpoint.channels:
        raise InputError(
            f"{checkpoint.path}: guessing its normalisation takes images of {checkpoint.channels} channels, "
            f"got {tuple(images.shape)}; pass --normalize"
        )
    if labels.min() < 0 or labels.max() >= checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: it answers {checkpoint.classes} classes, the labels go from "
            f"{int(labels.min())} to {int(labels.max())}; choose the data it was trained on with --data"
        )


def _known(arch: str | None, weights: StateDict, metadata: dict[str, Any]) -> tuple[Recognised, nn.Module]:
    """One of the registry: as the user says, else as the file says if that fits, else by the weights."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
    stored = metadata.get("arch")
    if arch is None and stored is not None:
        try:
            found = recognise(shapes, stored)
            found = Recognised(
                found.arch,
                found.classes,
                found.channels,
                found.image_size,
                (f"{found.arch} is what the file's metadata say, and its weights fit",),
            )
        except (InputError, Refused):
            found = recognise(shapes)
    else:
        found = recognise(shapes, arch)
    integers = [name for name, tensor in weights.tensors.items() if not tensor.is_floating_point()]
    quantised = [name for name in integers if not name.endswith("num_batches_tracked")]
    if quantised:
        raise Refused(f"weight {quantised[0]} is an integer, perhaps quantised; float weights are read")
    network = registry.construct(found.arch, found.classes, found.channels, found.image_size)
    # strict=False for counters of batches alone: recognise() has compared all other names.
    network.load_state_dict(weights.tensors, strict=False, assign=True)
    return found, PerImage(network) if INPUT in split_variant(found.arch)[1] else network


def _plugin(arch: str, weights: StateDict, metadata: dict[str, Any]) -> tuple[Recognised, nn.Module, bool]:
    network, normalises_itself = load_plugin(arch, weights)
    classes = metadata.get("classes") or classes_in(weights.tensors)
    if classes is None or classes < 2:
        raise Refused(
            f"--arch {arch}: the number of classes shows nowhere; end its network in a linear layer"
        )
    channels = metadata["image_shape"][0] if "image_shape" in metadata else channels_in(weights.tensors)
    return Recognised(arch, classes, channels, None, (f"built by {arch}",)), network, normalises_itself


def _normalisation(
    normalize: str | None,
    channels: int,
    metadata: dict[str, Any],
    weights: StateDict,
    normalises_itself: bool,
    stated: Normalisation | None,
) -> tuple[Normalisation | None, Literal["given", "stored", "guessed"], tuple[str, ...]]:
    if normalize is not None:
        return parse_normalisation(normalize, channels), "given", ()
    if normalises_itself:
        return (
            KNOWN[channels]["none"],
            "stored",
            ("its network normalises by itself, with buffers in the file",),
        )
    in_metadata, in_buffers = stored_normalisation(metadata, channels), weights.normalisation
    if in_buffers is not None and len(in_buffers.mean) == 1:
        in_buffers = Normalisation(in_buffers.name, in_buffers.mean * channels, in_buffers.std * channels)
    if in_buffers is not None and len(in_buffers.mean) != channels:
        raise Refused(f"its normalisation has {len(in_buffers.mean)} channels, its network {channels}")
    if in_metadata and in_buffers and str(in_metadata) != str(in_buffers):
        raise Refused(f"it stores two normalisations, {in_metadata} and {in_buffers}; pass --normalize")
    stored = in_metadata or in_buffers or stated
    return stored, "stored" if stored else "guessed", ()
