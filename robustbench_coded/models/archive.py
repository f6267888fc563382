"""Checkpoint files as bytes: safetensors, and those of torch.save, of today's zip format and of the one
before it; what is not one of them is refused by name.
"""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.refusal import (
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Refused,
    check_shape,
)
from robustbench_coded.models.shipped import ENDINGS, present, split_entry
from robustbench_coded.models.unpickling import HOW_TO_MEND, Unpickled, holds_objects, unpickled

# A zip archive's list of contents has one such mark for each file in it.
ZIP_ENTRY = b"PK\x01\x02"
# How a file of the format before zip begins: its magic number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TORCHSCRIPT = (
    "a TorchScript archive, which holds code: not loaded; where you trust it, "
    "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
)


def read_zip(data: bytes) -> Any:
    """The object in a zip archive of torch.save, its tensors on the CPU.

    Raises:
        Refused: TorchScript, compressed, damaged, or holding anything but tensors and plain values.
    """
    if data.count(ZIP_ENTRY) > MAX_TENSORS:
        raise Refused(f"a zip archive of more than {MAX_TENSORS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = _records(archive, len(data))
    except Refused:
        raise
    except Exception as error:  # zipfile raises a dozen types on damaged archives
        raise Refused(f"truncated or damaged zip archive ({error}); copy or download it again") from None
    pickled = records.get("data.pkl")
    if pickled is None:
        raise Refused("a zip archive that torch.save did not write")
    if records.get("byteorder", b"little") != b"little":
        raise Refused("its numbers are in the other order of bytes; save it on a usual machine")

    def storage(key: str, kind: torch.dtype, items: int) -> torch.Tensor:
        record = records.get(f"data/{key}")
        if record is None or len(record) != items * kind.itemsize:
            holds = "nothing" if record is None else f"{len(record)} bytes"
            raise Refused(
                f"storage {key[:20]} claims {items * kind.itemsize} bytes, the archive holds {holds}"
            )
        return _filled(torch.empty(items, dtype=kind), record)

    return _contents(unpickled(pickled, storage=storage))


def _records(archive: zipfile.ZipFile, available: int) -> dict[str, bytes]:
    """The contents under the archive's one root folder, their checksums verified."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise Refused(TORCHSCRIPT)
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise Refused("a compressed or encrypted zip archive; torch.save writes neither")
    if sum(entry.file_size for entry in entries) > available:
        raise Refused("a zip archive whose contents claim to be larger than the file")
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(set(names)) != len(names) or len(roots) != 1:
        raise Refused(_stranger(names))
    root = roots[0]
    return {name.removeprefix(root): archive.read(name) for name in names if name.startswith(root)}


def _stranger(names: list[str]) -> str:
    """What a zip archive is that torch.save did not write."""
    if any(name.endswith("/archive_format") for name in names):
        return (
            "a torch.export archive, which holds code: not loaded; where you trust it, "
            "torch.save(torch.export.load(FILE).state_dict, NEW_FILE)"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays, which belong to --data npz:FILE if they are images and labels"
    if inside := next((name for name in names if name.endswith(ENDINGS)), None):
        return f"a zip archive that holds {inside[:60]}; unpack it first"
    return "a zip archive that torch.save did not write"


def read_legacy(data: bytes) -> Any:
    """The object in a file of torch.save before version 1.6: four pickles, then the bytes of each storage.

    Raises:
        Refused: as for :func:`read_zip`.
    """
    position = 0
    for _ in range(3):  # magic number, protocol, the writer's machine
        position += unpickled(data, position).length
    storages: dict[str, torch.Tensor] = {}

    def storage(key: str, kind: torch.dtype, items: int) -> torch.Tensor:
        claimed = items * kind.itemsize
        if claimed + sum(one.nbytes for one in storages.values()) > len(data):
            raise Refused(f"truncated or damaged: storage {key[:20]} claims {claimed} bytes")
        storages[key] = torch.empty(items, dtype=kind)
        return storages[key]

    found = unpickled(data, position, storage=storage, id_length=6)
    position += found.length
    keys = unpickled(data, position)
    position += keys.length
    if not isinstance(keys.value, list) or sorted(map(str, keys.value)) != sorted(storages):
        raise Refused("damaged or not a torch checkpoint (its list of storages is another than its pickle's)")
    for key in keys.value:
        # The number of items stands before their bytes.
        items, end = int.from_bytes(data[position : position + 8], "little"), storages[key].nbytes
        position += 8 + end
        if items != len(storages[key]) or position > len(data):
            raise Refused(
                f"truncated or damaged: storage {key[:20]} is not of the {end} bytes it claims; "
                "copy or download it again"
            )
        _filled(storages[key], data[position - end : position])
    return _contents(found)


def _filled(storage: torch.Tensor, record: bytes) -> torch.Tensor:
    """The storage, its bytes set to those of the file."""
    if record:
        storage.view(torch.uint8).copy_(torch.frombuffer(bytearray(record), dtype=torch.uint8))
    return storage


def _contents(found: Unpickled) -> Any:
    if found.passed_over and not _holds_tensors(found.value):
        raise Refused(holds_objects(found.passed_over[0]))
    return found.value


def _holds_tensors(contents: Any, levels: int = 6) -> bool:
    if isinstance(contents, torch.Tensor):
        return True
    inside = contents.values() if isinstance(contents, dict) else contents
    return (
        levels > 0
        and isinstance(contents, dict | list | tuple)
        and any(_holds_tensors(one, levels - 1) for one in inside)
    )


ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}


def looks_like_safetensors(data: bytes) -> bool:
    """Whether the file begins as safetensors files do: the header's length, then its opening brace."""
    return len(data) > 8 and data[8:9] == b"{"


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, and the text entries of the header's ``__metadata__``.

    Raises:
        Refused: truncated, a header that is too long or not JSON, sizes that do not add up.
    """
    header = _header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused("its metadata are not text entries")
    if len(header) > MAX_TENSORS:
        raise Refused(f"more than {MAX_TENSORS} tensors")
    available = len(data) - 8 - int.from_bytes(data[:8], "little")
    for name, entry in header.items():
        _check_entry(name, entry, available)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        raise Refused(f"damaged safetensors file ({str(error).splitlines()[0][:120]})") from None
    # save_model leaves out a weight that is another one, too, and writes which.
    tied = {name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors}
    return {name: tensors[tied.get(name, name)] for name in (*header, *tied)}, metadata


def _header(data: bytes) -> dict[str, object]:
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise Refused(f"a safetensors header of {length} bytes; {MAX_HEADER_BYTES} is the most that is read")
    if length > len(data) - 8:
        raise Refused("truncated: its safetensors header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise Refused("its safetensors header is not JSON: damaged, or not a checkpoint") from None
    if not isinstance(header, dict):
        raise Refused("its safetensors header is not JSON of the right form")
    return header


def _check_entry(name: str, entry: object, available: int) -> None:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise Refused(f"weight {name[:60]} has no type, shape and place in the header")
    item_bytes = ITEM_BYTES.get(str(entry["dtype"]))
    if item_bytes is None:
        raise Refused(
            f"weight {name[:60]} has the type {str(entry['dtype'])[:20]}; floats and integers are read"
        )
    elements = check_shape(f"weight {name[:60]}", entry["shape"], available // item_bytes)
    place = entry["data_offsets"]
    if (
        not isinstance(place, list)
        or len(place) != 2
        or not all(type(end) is int for end in place)
        or not 0 <= place[0] <= place[1] <= available
        or place[1] - place[0] != elements * item_bytes
    ):
        raise Refused(f"truncated or damaged: weight {name[:60]} does not fill its place in the file")


# How other kinds of files begin, and what they are.
STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (b"<", "a web page or XML; download the checkpoint itself"),
    (b"\x89HDF\r\n", "a Keras or HDF5 file; only PyTorch's weights are read"),
    (b"\x93NUMPY", "a NumPy array, which belongs to --data npz:FILE if it holds images"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"GGUF", "a GGUF file; only PyTorch's weights are read"),
    (b"\x89PNG", "a picture; --data takes folders of them"),
    (b"\xff\xd8\xff", "a picture; --data takes folders of them"),
    (b"{", "text in JSON, as a server's answer; download the checkpoint itself"),
    (b"404", "a server's answer (not found); download the checkpoint itself"),
    (b"7z\xbc\xaf", "compressed with 7-Zip; unpack it first"),
    (b"Rar!", "compressed with RAR; unpack it first"),
)
TAR = 257, b"ustar"  # where a tar archive says so


@dataclass(frozen=True)
class Archive:
    """What a checkpoint file holds.

    Attributes:
        path: where it was read, as it was given.
        sha256: of the bytes that were read, and of ``entry`` where there is one, in hexadecimal.
        nbytes: size of the file.
        format: ``safetensors``, ``torch`` or ``torch (before 1.6)``.
        contents: the object inside; for safetensors a dict of tensors.
        metadata: text entries of a safetensors header; empty for the others.
        entry: of ``FILE#ENTRY``: which of its networks is asked for.
    """

    path: Path
    sha256: str
    nbytes: int
    format: str
    contents: Any
    metadata: dict[str, str]
    entry: str | None = None


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
    try:
        kind, contents, metadata = _parse(data)
    except Refused as refused:
        raise InputError(f"{path}: {refused}") from None
    sha256, entry = hashlib.sha256(data), split_entry(path)[1]
    if entry is not None:  # another network than the file's own, under another identity
        sha256.update(f"#{entry}".encode())
    return Archive(path, sha256.hexdigest(), len(data), kind, contents, metadata, entry)


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


def _parse(data: bytes) -> tuple[str, Any, dict[str, str]]:
    if data.startswith(b"PK"):
        return "torch", read_zip(data), {}
    if data.startswith(LEGACY_MAGIC):
        return "torch (before 1.6)", read_legacy(data), {}
    if looks_like_safetensors(data):
        tensors, metadata = read_safetensors(data)
        return "safetensors", tensors, metadata
    text = data[:64].lstrip()
    for beginning, what in STRANGERS:
        if data.startswith(beginning) or text.startswith(beginning):
            raise Refused(what)
    if data[TAR[0] :].startswith(TAR[1]):
        raise Refused("a tar archive; unpack it first")
    if data.startswith(b"\x80"):
        raise Refused(f"a plain pickle, which can hold code: not loaded; {HOW_TO_MEND}")
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x3a\x42]", data):  # its version, then a field of its model
        raise Refused("perhaps an ONNX file; save the state dict of the PyTorch network that it comes from")
    raise Refused("not a checkpoint; .pt, .pth, .th and .safetensors files are read")
