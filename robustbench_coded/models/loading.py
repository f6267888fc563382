"""From a checkpoint file to a Model: the one way in for `eval`, `inspect` and everything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import read_archive
from robustbench_coded.models.assemble import Assembled, assemble
from robustbench_coded.models.metadata import plain_entries, read_metadata, stored_normalisation
from robustbench_coded.models.normalisation import (
    KNOWN,
    Normalisation,
    NormalisationChoice,
    parse_normalisation,
)
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import read_state_dict


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
        path: a ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file, or the name of a shipped checkpoint.
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
        assembled = assemble(arch, weights, archive.path, metadata)
        found, weights = assembled.found, assembled.weights
        normalisation, source, notes = _normalisation(normalize, assembled, metadata)
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
        network=assembled.network.eval().requires_grad_(False),
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
        images: (n, channels, height, width) in [0, 1]; read only where the normalisation has to be guessed,
            and then the variant of the architecture is, too.
        labels: (n,) int64.
    Raises:
        InputError: the images or labels are not of the checkpoint's channels or classes.
    """
    if checkpoint.normalisation is not None:
        known = checkpoint.normalisation
        choice = NormalisationChoice(known.name, known.mean, known.std, checkpoint.normalisation_source)
    else:
        _check_examples(checkpoint, images, labels)
        from robustbench_coded.models.recognition import recognise_network  # which imports Checkpoint

        found = recognise_network(checkpoint, images, labels)
        return found.model, found.choice
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


def _normalisation(
    normalize: str | None, assembled: Assembled, metadata: dict[str, Any]
) -> tuple[Normalisation | None, Literal["given", "stored", "guessed"], tuple[str, ...]]:
    channels = assembled.found.channels
    if normalize is not None:
        return parse_normalisation(normalize, channels), "given", ()
    if assembled.normalises_itself:
        return KNOWN[channels]["none"], "stored", ("its network normalises by itself",)
    in_metadata, in_buffers = stored_normalisation(metadata, channels), assembled.weights.normalisation
    if in_buffers is not None and len(in_buffers.mean) == 1:
        in_buffers = Normalisation(in_buffers.name, in_buffers.mean * channels, in_buffers.std * channels)
    if in_buffers is not None and len(in_buffers.mean) != channels:
        raise Refused(f"its normalisation has {len(in_buffers.mean)} channels, its network {channels}")
    if in_metadata and in_buffers and str(in_metadata) != str(in_buffers):
        raise Refused(f"it stores two normalisations, {in_metadata} and {in_buffers}; pass --normalize")
    stored = in_metadata or in_buffers or assembled.stated
    return stored, "stored" if stored else "guessed", ()
