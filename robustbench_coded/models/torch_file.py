"""Files of torch.save, of today's zip format and of the one before it."""

import io
import zipfile
from typing import Any

import torch

from robustbench_coded.models.refusal import MAX_TENSORS, Refused
from robustbench_coded.models.shipped import ENDINGS
from robustbench_coded.models.unpickling import Unpickled, holds_objects, unpickled

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
