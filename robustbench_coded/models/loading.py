"""From a checkpoint file to a Checkpoint: the one way in for `eval`, `inspect` and everything else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.sequential_names import tokens_of
from robustbench_coded.models.archive import read_archive
from robustbench_coded.models.assemble import Assembled, assemble
from robustbench_coded.models.checkpoint import Checkpoint, FileLayout
from robustbench_coded.models.detect import Recognised
from robustbench_coded.models.metadata import plain_entries, read_metadata, stored_normalisation
from robustbench_coded.models.normalisation import KNOWN, Normalisation, parse_normalisation
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.state_dict import read_state_dict


def load_checkpoint(
    path: str | Path, *, arch: str | None = None, normalize: str | None = None, name: str | None = None
) -> Checkpoint:
    """Reads a checkpoint, finds its architecture, puts the weights into it; executes nothing in the file.

    Args:
        path: a ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file, or the name of a shipped checkpoint;
            ``FILE#ENTRY`` for one of several networks in it.
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
        weights = read_state_dict(archive.contents, archive.nbytes, archive.entry)
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
        arch_source=_arch_source(arch, found, metadata),
        classes=found.classes,
        channels=found.channels,
        image_size=found.image_size,
        network=assembled.network.eval().requires_grad_(False),
        metadata=metadata,
        normalisation=normalisation,
        normalisation_source=source,
        notes=(*found.notes, *_contradicted(metadata, found), *notes),
        layout=FileLayout(
            archive.format,
            archive.nbytes,
            weights.nesting,
            weights.prefixes,
            weights.dropped,
            weights.dtypes,
            plain_entries(archive),
            () if archive.entry is not None else weights.networks,
        ),
    )


def _arch_source(
    arch: str | None, found: Recognised, metadata: dict[str, Any]
) -> Literal["given", "stored", "guessed"]:
    if "[" not in found.arch and tokens_of(found.arch) is not None:
        return "guessed"
    if arch is not None:
        return "given"
    return "stored" if metadata.get("arch") == found.arch else "guessed"


def _contradicted(metadata: dict[str, Any], found: Recognised) -> Iterator[str]:
    """What the metadata say of the images and classes, where the weights show another number."""
    channels = metadata["image_shape"][0] if metadata.get("image_shape") else None
    for said, has, what in (
        (metadata.get("classes"), found.classes, "classes"),
        (channels, found.channels, "channels"),
    ):
        if said not in (None, has):
            yield f"its metadata say {said} {what}, its weights have {has}"


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
