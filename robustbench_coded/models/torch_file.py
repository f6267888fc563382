"""Files of torch.save, of today's zip format and of the one before it, read in weights-only mode alone."""

import argparse
import io
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy
import torch

from robustbench_coded.models.pickle_scan import HOW_TO_MEND, Scan, holds_objects, scan
from robustbench_coded.models.pickle_stand_ins import NUMPY_TYPES, Storage
from robustbench_coded.models.refusal import MAX_TENSORS, Refused
from robustbench_coded.models.shipped import ENDINGS

_numpy_scalar = numpy.float64(0).__reduce__()[0]  # its module's name differs between versions

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
    found = scan(pickled)
    for key, storage in found.storages.items():
        _check_storage(key, storage, records)
    return _load(_repack(records, list(found.storages)), found)


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


def _check_storage(key: str, storage: Storage, records: dict[str, bytes]) -> None:
    record = records.get(f"data/{key}")
    if record is None or len(record) != storage.nbytes:
        holds = "nothing" if record is None else f"{len(record)} bytes"
        raise Refused(f"storage {key[:20]} claims {storage.nbytes} bytes, the archive holds {holds}")


def _repack(records: dict[str, bytes], storages: list[str]) -> io.BytesIO:
    """The archive again, of what was checked alone: two zip readers can see different files in one."""
    wanted = ["data.pkl", *(name for name in ("byteorder",) if name in records)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/version", "3\n")
        for name in [*wanted, *(f"data/{key}" for key in storages)]:
            archive.writestr(f"archive/{name}", records[name])
    packed.seek(0)
    return packed


def read_legacy(data: bytes) -> Any:
    """The object in a file of torch.save before version 1.6: four pickles, then the bytes of each storage.

    Raises:
        Refused: as for :func:`read_zip`.
    """
    position = 0
    for _ in range(3):  # magic number, protocol, the writer's machine
        position += scan(data, position).length
    found = scan(data, position, id_length=6)
    position += found.length
    keys = scan(data, position)
    position += keys.length
    if not isinstance(keys.value, list) or sorted(map(str, keys.value)) != sorted(found.storages):
        raise Refused("damaged or not a torch checkpoint (its list of storages is another than its pickle's)")
    for key in keys.value:
        storage = found.storages[key]
        # The number of items stands before their bytes.
        numel = int.from_bytes(data[position : position + 8], "little")
        position += 8 + storage.nbytes
        if numel != storage.numel or position > len(data):
            raise Refused(
                f"truncated or damaged: storage {key[:20]} is not of the {storage.nbytes} bytes it claims; "
                "copy or download it again"
            )
    return _load(io.BytesIO(data), found)


# What the scan lets through beside the names that torch's weights-only mode knows: plain data.
PLAIN_DATA = [
    argparse.Namespace,
    numpy.dtype,
    *(type(numpy.dtype(name)) for name in NUMPY_TYPES),
    *((_numpy_scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
]


class Dropped:
    """What stands in place of an object that is passed over, whatever the pickle does to it."""

    def __new__(cls, *_: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class DroppedDict(Dropped):
    """The same of an object that has items: a dict of them."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


class DroppedList(Dropped):
    """The same of an object that is appended to: a list."""

    def __new__(cls, *_: Any) -> Any:
        return []


STAND_INS: dict[type, type[Dropped]] = {object: Dropped, dict: DroppedDict, list: DroppedList}


def _in_place_of(dropped: Mapping[str, type]) -> Iterator[tuple[type, str]]:
    """Stand-ins with the names that torch looks for: those of Python 2 in the protocol's number 2."""
    for path, kind in dropped.items():
        module, _, name = path.partition(" ")
        renamed = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        for full in {f"{module}.{name}", ".".join(renamed)}:
            yield STAND_INS[kind], full


def _holds_tensors(contents: Any, levels: int = 6) -> bool:
    if isinstance(contents, torch.Tensor):
        return True
    inside = contents.values() if isinstance(contents, Mapping) else contents
    return (
        levels > 0
        and isinstance(contents, Mapping | list | tuple)
        and any(_holds_tensors(one, levels - 1) for one in inside)
    )


def _load(stream: io.BytesIO, found: Scan) -> Any:
    # Older versions of torch cannot be told, and refuse such data.
    allowed = getattr(torch.serialization, "safe_globals", lambda _: nullcontext())
    try:
        with allowed([*PLAIN_DATA, *_in_place_of(found.dropped)]):
            contents = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it is, the file is what is wrong
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise Refused(f"torch's weights-only mode does not read it ({reason}); {HOW_TO_MEND}") from None
    if found.dropped and not _holds_tensors(contents):
        raise Refused(holds_objects(next(iter(found.dropped))))
    return contents
