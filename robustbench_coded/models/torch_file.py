"""Files of torch.save, read by ``torch.load(weights_only=True)``: nothing in them is imported or called.

First the operations of their pickle are followed without carrying any out, and the sizes that it claims are
checked. Objects get stand-ins; a pickled module becomes a dict of its weights.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from robustbench_coded.models.refusal import (
    HOW_TO_MEND,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Refused,
    another_zip,
    holds_objects,
)

# How a file of torch.save before version 1.6 begins: its magic number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ZIP_ENTRY = b"PK\x01\x02"  # once in an archive's list of contents for each file in it
ITEM_BYTES = {
    **dict.fromkeys(("torch DoubleStorage", "torch LongStorage"), 8),
    **dict.fromkeys(("torch FloatStorage", "torch IntStorage"), 4),
    **dict.fromkeys(("torch HalfStorage", "torch BFloat16Storage", "torch ShortStorage"), 2),
    **dict.fromkeys(("torch CharStorage", "torch ByteStorage", "torch BoolStorage"), 1),
}
# How dense weights are rebuilt; torch has others.
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state")
# What torch never loads, and a type that it would make of any size.
HARMFUL = ("os ", "posix ", "nt ", "sys ", "__builtin__ bytearray", "builtins bytearray")


def read_torch(data: bytes) -> Any:
    """The object in a file of torch.save: tensors on the CPU, and a dict of the weights in place of a module.

    Raises:
        Refused: TorchScript, damaged, claims of sizes that are wrong, or objects and no weights.
    """
    try:
        return _read_legacy(data) if data.startswith(LEGACY_MAGIC) else _read_zip(data)
    except Refused:
        raise
    except Exception as error:  # damage shows in a dozen types
        reason = (str(error) or type(error).__name__).splitlines()[0][:150]
        mend = HOW_TO_MEND if isinstance(error, pickle.UnpicklingError) else "download it again"
        raise Refused(f"truncated, damaged or not a torch checkpoint ({reason}); {mend}") from None


def _read_zip(data: bytes) -> Any:
    if data.count(ZIP_ENTRY) > MAX_TENSORS:
        raise Refused(f"a zip archive of more than {MAX_TENSORS} files")
    # Two readers can disagree on what a crafted archive holds: torch gets one of what was checked.
    checked = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(checked, "w") as copy:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if (other := another_zip(names)) or len(roots) != 1:
            raise Refused(other or "a zip archive that torch.save did not write")
        if sum(entry.file_size for entry in archive.infolist()) > len(data):
            raise Refused("a zip archive that is compressed, or claims to hold more than the file has")
        pickled, present = _followed(archive.read(f"{roots[0]}data.pkl")), set(names)
        records = {f"data/{key}": nbytes for key, nbytes in pickled.storages.items()}
        for name in ("data.pkl", "version", "byteorder", *records):
            # Reading verifies the checksum.
            record = archive.read(f"{roots[0]}{name}") if f"{roots[0]}{name}" in present else b""
            if len(record) != records.get(name, len(record)):
                raise Refused(f"{name[:20]} claims {records[name]} bytes, the archive holds {len(record)}")
            if record or name in records:
                copy.writestr(f"archive/{name}", record)
    return _loaded(checked, pickled)


def _read_legacy(data: bytes) -> Any:
    """Of the format before zip: four pickles, then the bytes of each storage."""
    start = 0
    for _ in range(3):  # magic number, protocol, the writer's machine
        start += _followed(data[start : start + MAX_HEADER_BYTES]).length
    pickled = _followed(data[start : start + MAX_HEADER_BYTES])
    left = data[start + pickled.length :]
    if (claimed := sum(pickled.storages.values())) > len(left):
        raise Refused(f"truncated or damaged: its storages claim {claimed} bytes, {len(left)} are left")
    return _loaded(io.BytesIO(data[:start] + pickled.loadable + left), pickled)


@dataclass
class _Pickle:
    """What a pickle would do: ``"module name"`` of what it imports, and bytes of each storage by its key.

    Before 1.6 the classes of modules lie beside their source, which torch does not load: ``sources`` has the
    places of these items and of the operation that takes them. ``loadable`` takes the second item, the class.
    """

    names: dict[str, None] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)
    sources: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0
    loadable: bytes = b""

    def note(self, identity: list[Any], start: int, end: int) -> None:
        """Takes what identifies a storage or such a class, and those places."""
        if identity[0] == "module":
            self.sources.append((start, end))
            return
        kind, key, _, items, *view = identity[1:]
        if identity[0] != "storage" or not key.isdigit() or type(items) is not int or any(view):
            raise TypeError("not a storage")
        if kind not in ITEM_BYTES:
            what = "quantised" if "QInt" in kind else "of a type that is rarely used"
            raise Refused(f"it holds weights that are {what} ({kind[:60]}); dense float ones are read")
        nbytes = items * ITEM_BYTES[kind]
        if self.storages.setdefault(key, nbytes) != nbytes or nbytes < 0:
            raise TypeError(f"two sizes of storage {key[:20]}")


@dataclass
class _Item:
    """On a pickle's stack: a plain value, a name or a list of items; and how much it holds."""

    value: Any
    weight: int


def _followed(data: bytes, with_sources: bool = True) -> _Pickle:
    """Follows the pickle that ``data`` begins with; operations that torch does not know are left to it."""
    if len(data) > MAX_HEADER_BYTES:
        raise Refused(f"a pickle of {len(data)} bytes; {MAX_HEADER_BYTES} is the most that is read")
    pickled, stream = _Pickle(), io.BytesIO(data)
    stack: list[_Item] = []
    marks: list[tuple[list[_Item], int]] = []
    memo: dict[int, _Item] = {}
    copied = marked = 0
    argument: Any
    for operation, argument, position in pickletools.genops(stream):
        does, takes = operation.name, operation.stack_before
        fills = does in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
        if does == "MARK":
            marks.append((stack, position or 0))
            stack = []
        elif does in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif does in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
            copied += memo[argument].weight
        else:
            if pickletools.markobject in takes:
                items, (stack, marked) = stack, marks.pop()
            else:
                items = [stack.pop() for _ in takes[fills:]][::-1]
            held = sum(item.weight for item in items)
            if fills:
                stack[-1].weight += held
            elif does == "BINPERSID":
                pickled.note([item.value for item in items[0].value], marked, position or 0)
                stack.append(_Item(None, 1))
            elif operation.stack_after:
                held += len(argument) if isinstance(argument, str | bytes) else 0
                stack.append(_Item(items or argument, 1 + held))
            copied += held if does in ("REDUCE", "NEWOBJ", "BUILD") else 0
        if does == "GLOBAL":
            pickled.names[argument] = None
        if does == "PROTO" and argument != 2:
            raise Refused(f"pickle protocol {argument}; save it with torch.save's own, which is 2")
        # A few bytes could have what is in the file once copied, or hashed, again and again.
        if copied > 4 * MAX_HEADER_BYTES:
            raise Refused("its pickle copies more than it holds: not loaded")
    pickled.length = stream.tell()
    pickled.loadable = data[: pickled.length]
    if pickled.sources:
        for start, end in reversed(pickled.sources):
            before, items_then, after = data[:start], data[start:end], pickled.loadable[end + 1 :]
            pickled.loadable = before + b"ccsrobust\nsecond\n" + items_then + b"R" + after
        if not with_sources:
            raise TypeError("sources in sources")
        return replace(_followed(pickled.loadable, with_sources=False), length=pickled.length)
    return pickled


class _Dict:
    """Makes a dict, the one kind that torch fills with items and gives attributes, as those of a module."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


class _Object:
    """Keeps what it is made of, and passes over what it is filled with."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, _: Any) -> None: ...


def _stand_in(name: str) -> Any:
    if name == "csrobust.second":
        return lambda *items: items[1]
    if name == "collections.deque":
        return lambda *_: []
    if name.endswith(".multiarray.scalar"):  # NumPy's numbers, as accuracies are
        return lambda kind, value: np.frombuffer(value, kind.arguments[0])[0].item()
    return _Object if name.startswith(("numpy.", "functools.")) else _Dict


def _loaded(file: io.BytesIO, pickled: _Pickle) -> Any:
    alone = io.BytesIO()  # as torch looks for such names in zip archives alone
    with zipfile.ZipFile(alone, "w") as archive:
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data.pkl", pickled.loadable)
    alone.seek(0)
    objects = get_unsafe_globals_in_checkpoint(alone)
    for name in pickled.names:
        module, _, last = name.partition(" ")
        if module == "torch._utils" and last not in REBUILT:
            raise Refused(f"it holds weights of another kind ({last[:60]}); dense float ones are read")
        if name.startswith(HARMFUL) or (name.replace(" ", ".") in objects and not pickled.storages):
            raise Refused(holds_objects(name))
    with safe_globals([(_stand_in(name), name) for name in objects]):
        file.seek(0)
        contents = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(contents, dict):
        return contents
    return _weights(contents) or {name: _weights(value) or value for name, value in contents.items()}


def _weights(module: Any) -> dict[str, torch.Tensor]:
    """What ``module.state_dict()`` would have, in its order; empty for what is no pickled module."""
    weights: dict[str, torch.Tensor] = {}
    waiting, count = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        state = vars(module) if isinstance(module, OrderedDict) else {}
        for name, value in [*state.get("_parameters", {}).items(), *state.get("_buffers", {}).items()]:
            if isinstance(value, torch.Tensor) and name not in state.get("_non_persistent_buffers_set", ()):
                weights[f"{prefix}{name}"[:1000]] = value
        inside = [(f"{prefix}{name}."[:1000], child) for name, child in state.get("_modules", {}).items()]
        waiting, count = waiting + inside[::-1], count + 1
        if count + len(waiting) > MAX_TENSORS:
            raise Refused("its modules lie in one another without end")
    return weights
