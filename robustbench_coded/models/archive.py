"""Checkpoint files as bytes: safetensors, and those of torch.save, of today's zip format and of the one
before it; what is not one of them is refused by name. And what stands beside the weights in them:
architecture, normalisation.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named
from robustbench_coded.models.refusal import (
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Refused,
    another_file,
)
from robustbench_coded.models.shipped import present, split_entry
from robustbench_coded.models.torch_file import LEGACY_MAGIC, read_torch

ACTIVATIONS = re.compile(rb"ctorch\.nn\.modules\.activation\n([A-Za-z0-9]{1,40})\n")  # as a pickle names them


@dataclass(frozen=True)
class Archive:
    """The contents of a checkpoint file.

    Attributes:
        path: where it was read, as it was given.
        sha256: of the bytes that were read, and of ``entry`` where there is one, in hexadecimal.
        nbytes: size of the file.
        format: ``safetensors``, ``torch`` or ``torch (before 1.6)``.
        contents: the object inside; for safetensors a dict of tensors.
        metadata: text entries of a safetensors header; empty for the others.
        entry: of ``FILE#ENTRY``: which of its networks is asked for.
        activation: the only class of ``torch.nn.modules.activation`` that its pickle names; else empty.
    """

    path: Path
    sha256: str
    nbytes: int
    format: str
    contents: Any
    metadata: dict[str, str]
    entry: str | None = None
    activation: str = ""


def read_archive(path: str | Path) -> Archive:
    """Reads a ``.pt``, ``.pth``, ``.th`` or ``.safetensors`` file; the content decides, not the name.

    Args:
        path: the file, or the name of a shipped checkpoint; a file of that name comes first. ``#ENTRY``
            behind it names one of several networks in it.
    Raises:
        InputError: the file is missing, empty, too large, truncated, no checkpoint, or holds code.
    """
    path = Path(path)
    data = _read_bytes(path)
    kind = "torch"
    metadata: dict[str, str] = {}
    try:
        if data.startswith((b"PK", LEGACY_MAGIC)):
            kind += "" if data.startswith(b"PK") else " (before 1.6)"
            contents = read_torch(data)
        elif len(data) > 8 and data[8:9] == b"{":  # behind its header's length
            kind = "safetensors"
            contents, metadata = read_safetensors(data)
        else:
            raise Refused(another_file(data))
    except Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    sha256, entry = hashlib.sha256(data), split_entry(path)[1]
    if entry is not None:  # another network than the file's own, under another identity
        sha256.update(f"#{entry}".encode())
    activations = set(ACTIVATIONS.findall(data))
    activation = activations.pop().decode() if len(activations) == 1 else ""
    return Archive(path, sha256.hexdigest(), len(data), kind, contents, metadata, entry, activation)


def _read_bytes(named: Path) -> bytes:
    path = present(named)
    try:
        nbytes = path.stat().st_size
        if nbytes > MAX_FILE_BYTES:
            raise InputError(
                f"{path}: {nbytes / 2**30:.1f} GiB, at most {MAX_FILE_BYTES / 2**30:.0f} are read; "
                "save the state dict without the optimiser"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not data:
        raise InputError(f"{path}: the file is empty; copy or download it again")
    return data


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, and the text entries of the header's ``__metadata__``.

    Raises:
        Refused: truncated, a header that is too long, sizes that do not add up to the file's.
    """
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise Refused(f"a safetensors header of {length} bytes; {MAX_HEADER_BYTES} is the most that is read")
    try:
        tensors = safetensors.torch.load(data)  # holds every shape and place against the bytes that are there
        header = json.loads(data[8 : 8 + length])
    except (SafetensorError, ValueError, RuntimeError, OverflowError, KeyError, RecursionError) as error:
        why = str(error).splitlines()[0][:120]
        raise Refused(f"truncated or damaged safetensors file ({why}); copy or download it again") from None
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_TENSORS:
        raise Refused(f"more than {MAX_TENSORS} tensors")
    # save_model leaves out a weight that is another one, too, and writes which.
    tied = {name: source for name, source in metadata.items() if source in tensors and name not in tensors}
    return {name: tensors[tied.get(name, name)] for name in (*header, *tied)}, metadata


KEY = "csrobust"  # the entry of a safetensors header that has this project's own, as JSON

Positive = Annotated[int, msgspec.Meta(ge=1)]


class _MeanAndStd(msgspec.Struct):
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Known(msgspec.Struct):
    """The entries that loading reads; a file may have others."""

    arch: str | None = None
    classes: Annotated[int, msgspec.Meta(ge=2)] | None = None
    image_shape: tuple[Positive, Positive, Positive] | None = None
    normalisation: str | _MeanAndStd | None = None


def read_metadata(archive: Archive) -> dict[str, Any]:
    """The entries under :data:`KEY`; empty where there are none.

    ``arch`` (str), ``classes`` (int), ``image_shape`` ([channels, height, width]) and ``normalisation`` (a
    known name, or ``mean`` and ``std``) are checked here; the others (``data``, ``recipe``, ``seed``,
    ``accuracy`` and so on) are passed on.

    Raises:
        Refused: not JSON, or one of those entries of another form.
    """
    try:
        metadata = json.loads(archive.metadata.get(KEY, "{}"))
        msgspec.convert(metadata, _Known)
    except msgspec.ValidationError as error:
        raise Refused(f"its metadata entry {KEY}: {str(error)[:150]}") from None
    except (ValueError, RecursionError):
        raise Refused(f"its metadata entry {KEY} is not JSON") from None
    return metadata


def stored_normalisation(metadata: dict[str, Any], channels: int) -> Normalisation | None:
    """The normalisation that checked metadata name, for that many channels.

    Raises:
        Refused: there is none of that name, or it is for another number of channels.
    """
    stored = metadata.get("normalisation")
    if stored is None:
        return None
    try:
        if isinstance(stored, str):
            normalisation = KNOWN.get(channels, {}).get(stored)
        else:
            normalisation = named(tuple(stored["mean"]), tuple(stored["std"]))
    except ValueError as error:
        raise Refused(f"its metadata's normalisation: {error}") from None
    if normalisation is None or len(normalisation.mean) != channels:
        raise Refused(f"its metadata's normalisation is not for {channels} channels; pass --normalize")
    return normalisation
