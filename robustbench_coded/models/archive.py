"""From a path to what a checkpoint file holds, whatever its format; nothing in it is executed."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.models import safetensors_file, torch_file
from robustbench_coded.models.pickle_scan import HOW_TO_MEND
from robustbench_coded.models.refusal import MAX_FILE_BYTES, Refused
from robustbench_coded.models.shipped import present, split_entry

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
        return "torch", torch_file.read_zip(data), {}
    if data.startswith(torch_file.LEGACY_MAGIC):
        return "torch (before 1.6)", torch_file.read_legacy(data), {}
    if safetensors_file.looks_like(data):
        tensors, metadata = safetensors_file.read(data)
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
