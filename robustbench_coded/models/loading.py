"""A trained network as its file has it: its weights, the network that they fit, the data it may be asked."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.extensions import load
from robustbench_coded.models.archive import (
    read_archive,
    read_metadata,
    stored_normalisation,
)
from robustbench_coded.models.detect import Recognised, construct, recognise
from robustbench_coded.models.external_architectures import Assembled, is_library, own_network
from robustbench_coded.models.normalisation import KNOWN, Normalisation, parse_normalisation
from robustbench_coded.models.refusal import COUNTER, Refused, Unrecognised, shapes_in, stating
from robustbench_coded.models.state_dict import StateDict, another, read_state_dict, stripped

MOST_PARTS = 4  # of a file that may be a network


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, and what its file says about it.

    Attributes:
        name: as printed in tables.
        path: the file.
        sha256: of the file, in hexadecimal.
        format, nbytes: of the file, as of its ``Archive``.
        arch: name of the architecture, or the ``package.module:function`` it was built by.
        arch_source: ``given`` by the user, ``stored`` in the file, or ``recognised`` by its weights.
        classes: number of classes.
        channels: channels of the image, 1 or 3.
        image_size: height and width in pixels; None where the network takes any.
        network: takes normalised images; float32, on the CPU, in eval mode, its parameters frozen.
        metadata: what this project stored beside the weights; empty for files of others.
        normalisation: given or stored; None where images have to decide it.
        normalisation_source: ``given``, ``stored`` or ``unknown``.
        notes: what was recognised and why, a sentence each.
        layout: how the weights lay in the file, without them.
        activation: the only class of activations that its pickle names, as ``ELU``; else empty.
    """

    name: str
    path: Path
    sha256: str
    format: str
    nbytes: int
    arch: str
    arch_source: Literal["given", "stored", "recognised"]
    classes: int
    channels: int
    image_size: int | None
    network: nn.Module
    metadata: dict[str, Any]
    normalisation: Normalisation | None
    normalisation_source: Literal["given", "stored", "unknown"]
    notes: tuple[str, ...]
    layout: StateDict
    activation: str


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


def assemble(
    arch: str | None,
    weights: StateDict,
    path: Path,
    metadata: dict[str, Any],
    image_shape: Sequence[int] | None = None,
) -> Assembled:
    """Finds the architecture and puts the weights into it.

    Args:
        arch: a name of ``csrobust list models``, ``LIBRARY:NAME`` or ``package.module:function``; None to
            recognise it.
        weights: of the checkpoint.
        path: its file.
        metadata: what this project stored beside the weights.
        image_shape: of the data, [C, H, W], which a network of the user's own is tried on first.
    Raises:
        Refused: no architecture has these weights, or the named one has not.
        InputError: ``arch`` is not known, or cannot be built here.
    """
    if arch is not None and is_library(arch):
        library, _, name = arch.partition(":")
        assembled: Assembled = load("libraries", library)(name, weights, path, metadata)
        return assembled
    if arch is not None and ":" in arch:
        return own_network(arch, weights, metadata, image_shape)
    try:
        return _known(arch, weights, metadata)
    except Refused as refused:
        if arch is None and (path.parent / "config.json").is_file():
            message = f"{refused}; --arch hf: takes the network that config.json describes"
            raise type(refused)(message) from None
        raise


def _known(arch: str | None, weights: StateDict, metadata: dict[str, Any]) -> Assembled:
    """A network of the registry: as the user says, else as the file says, else by the weights."""
    stored = metadata.get("arch") if arch is None else None
    try:
        recognised = _recognised(stored or arch, weights)
    except (InputError, Refused) as error:
        if not stored:
            raise
        raise Unrecognised(f"its metadata say {str(stored)[:80]}: {error}") from None
    if stored:
        note = f"{recognised.arch} is what the file's metadata say, and its weights fit"
        recognised = replace(recognised, notes=(note,))
    integers = [name for name, tensor in weights.tensors.items() if not tensor.is_floating_point()]
    quantised = [name for name in integers if not name.endswith(COUNTER)]
    if quantised:
        raise Refused(f"weight {quantised[0]} is an integer, perhaps quantised; float weights are read")
    network = construct(recognised.arch, recognised.classes, recognised.channels)
    # strict=False for counters of batches alone: recognise() has compared all other names.
    network.load_state_dict(weights.tensors, strict=False, assign=True)
    return Assembled(recognised, network)


def _recognised(arch: str | None, weights: StateDict) -> Recognised:
    try:
        return recognise(shapes_in(weights.tensors), arch, "".join(weights.prefixes))
    except Unrecognised:
        for part, _ in Counter(name.partition(".")[0] for name in weights.tensors).most_common(MOST_PARTS):
            own = {name: tensor for name, tensor in weights.tensors.items() if name.startswith(f"{part}.")}
            with suppress(Refused):
                recognise(shapes_in(stripped(own).tensors), arch)
                break
        else:
            raise
    message = another("".join((*weights.prefixes, part)))
    raise Refused(f"a known network is one of several parts of the file; {message}")


def load_checkpoint(
    path: str | Path,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    name: str | None = None,
    image_shape: Sequence[int] | None = None,
) -> Checkpoint:
    """Reads a checkpoint, finds its architecture, puts the weights into it; executes nothing in the file.

    Args:
        path: a ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file, or the name of a shipped checkpoint;
            ``FILE#ENTRY`` for one of several networks in it.
        arch: a name of ``csrobust list models``, or ``package.module:function`` in the user's own code; None
            to recognise it.
        normalize: as for ``--normalize``; None to take what the file says.
        name: for tables; None for the file's name without its ending.
        image_shape: [C, H, W] of the data, where they are known.
    Raises:
        InputError: the file cannot be used, in one line that names it.
    """
    archive = read_archive(path)
    try:
        metadata = read_metadata(archive)
        weights = read_state_dict(archive.contents, archive.nbytes, archive.entry)
        assembled = assemble(arch, weights, archive.path, metadata, image_shape)
        recognised = assembled.recognised
        normalisation, source, notes = _normalisation(normalize, assembled, weights, metadata)
    except Refused as refused:
        how = f"; {stating(str(path))}" if isinstance(refused, Unrecognised) else ""
        raise InputError(f"{archive.path}: {refused}{how}") from None
    is_stored = metadata.get("arch") == recognised.arch
    return Checkpoint(
        name=name if name is not None else archive.path.stem,
        path=archive.path,
        sha256=archive.sha256,
        format=archive.format,
        nbytes=archive.nbytes,
        arch=recognised.arch,
        arch_source="given" if arch is not None else "stored" if is_stored else "recognised",
        classes=recognised.classes,
        channels=recognised.channels,
        image_size=recognised.image_size,
        network=assembled.network.eval().requires_grad_(False),
        metadata=metadata,
        normalisation=normalisation,
        normalisation_source=source,
        notes=(*recognised.notes, *weights.notes, *notes),
        layout=replace(weights, tensors={}, original={}),
        activation=archive.activation,
    )


def _normalisation(
    normalize: str | None, assembled: Assembled, weights: StateDict, metadata: dict[str, Any]
) -> tuple[Normalisation | None, Literal["given", "stored", "unknown"], tuple[str, ...]]:
    channels = assembled.recognised.channels
    if normalize is not None:
        return parse_normalisation(normalize, channels), "given", ()
    if assembled.normalises_itself:
        return KNOWN[channels]["none"], "stored", ("its network normalises by itself",)
    in_metadata, in_buffers = stored_normalisation(metadata, channels), weights.normalisation
    if in_buffers is not None and len(in_buffers.mean) == 1:
        in_buffers = Normalisation(in_buffers.name, in_buffers.mean * channels, in_buffers.std * channels)
    if in_buffers is not None and len(in_buffers.mean) != channels:
        raise Refused(f"its normalisation has {len(in_buffers.mean)} channels, its network {channels}")
    if in_metadata and in_buffers and str(in_metadata) != str(in_buffers):
        raise Refused(f"it stores two normalisations, {in_metadata} and {in_buffers}; pass --normalize")
    stored = in_metadata or in_buffers or assembled.stated
    return stored, "stored" if stored else "unknown", ()
