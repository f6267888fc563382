"""Files of torch.save, read without importing or calling anything that they name.

The few operations of their pickle are carried out on plain values. Tensors are built of bytes that are there,
objects get stand-ins, and a pickled module becomes a dict of its weights.
"""

import io
import itertools
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.models.refusal import (
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Refused,
    another_zip,
    holds_objects,
)

# How a file of torch.save before version 1.6 begins: its magic number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ZIP_ENTRY = b"PK\x01\x02"  # once in an archive's list of contents for each file in it
NAMED_AS_TYPES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Bool")
DTYPES = {f"torch {kind}Storage": getattr(torch, kind.lower()) for kind in NAMED_AS_TYPES}
DTYPES |= {"torch CharStorage": torch.int8, "torch ByteStorage": torch.uint8}
# How dense weights are rebuilt: of a storage, offset, size and stride, or of a tensor. torch has others.
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state")
PARAMETER = "torch.nn.parameter Parameter"  # called, before torch 0.4
FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
CODE = ("dill.", "cloudpickle.")  # pickle functions and classes by their code
HARMFUL = ("os ", "posix ", "nt ", "sys ")  # only a planted call names these
MAX_VALUES = 10**6  # that a walk through a file meets
MAX_UNSAVED = 100  # buffers of one module that are not in its state dict

Storages = Callable[[str, int], Tensor]  # a key and its bytes -> these, uint8 (bytes,)


def read_torch(data: bytes) -> Any:
    """The object in a file of torch.save: tensors on the CPU, and a dict of the weights in place of a module.

    Raises:
        Refused: TorchScript, damaged, claims of sizes that are wrong, or objects and no weights.
    """
    try:
        contents = _read_legacy(data) if data.startswith(LEGACY_MAGIC) else _read_zip(data)
        if isinstance(contents, dict):
            nth = itertools.count()
            weights = {name: _weights(value, nth) for name, value in contents.items()}
            contents = _weights(contents, nth) or {name: weights[name] or contents[name] for name in contents}
        _check_extent(contents)
        return contents
    except Refused:
        raise
    except Exception as error:  # damage shows in a dozen types
        reason = (str(error) or type(error).__name__).splitlines()[0][:150]
        raise Refused(f"truncated, damaged or not a torch checkpoint ({reason}); download it again") from None


def _read_zip(data: bytes) -> Any:
    if data.count(ZIP_ENTRY) > MAX_TENSORS:
        raise Refused(f"a zip archive of more than {MAX_TENSORS} files")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if (other := another_zip(names)) or len(roots) != 1:
            raise Refused(other or "a zip archive that torch.save did not write")
        if sum(entry.file_size for entry in archive.infolist()) > len(data):
            raise Refused("a zip archive that is compressed, or claims to hold more than the file has")
        present, order = set(names), f"{roots[0]}byteorder"
        if order in present and archive.read(order) != b"little":
            raise Refused("its numbers are not in little-endian order; save it again on another machine")

        def stored(key: str, nbytes: int) -> Tensor:
            name = f"{roots[0]}data/{key}"
            record = archive.read(name) if name in present else b""  # verifies the checksum
            if len(record) != nbytes:
                raise Refused(f"data/{key[:20]} claims {nbytes} bytes, the archive holds {len(record)}")
            return torch.from_numpy(np.frombuffer(bytearray(record), np.uint8))

        return _unpickled(io.BytesIO(archive.read(f"{roots[0]}data.pkl")), stored)


def _read_legacy(data: bytes) -> Any:
    """Of the format before zip: five pickles, then size and bytes of each storage."""
    stream = io.BytesIO(data)
    storages: dict[str, Tensor] = {}
    free = len(data)

    def stored(key: str, nbytes: int) -> Tensor:
        nonlocal free
        free -= nbytes
        if free < 0:
            claimed = f"its storages claim {len(data) - free} bytes of {len(data)}"
            raise Refused(f"truncated or damaged: {claimed}; copy or download it again")
        return storages.setdefault(key, torch.zeros(nbytes, dtype=torch.uint8))

    # Magic number, protocol, the writer's machine, the object and the order of its storages.
    *_, contents, keys = [_unpickled(stream, stored) for _ in range(5)]
    for key in keys:
        stream.seek(8, io.SEEK_CUR)
        storages[key].numpy()[:] = np.frombuffer(stream.read(storages[key].numel()), np.uint8)
    return contents


class _StandIn(dict[Any, Any]):
    """In place of an object: its items, what it is made of (of an import its name) and its state."""

    def __init__(self, made_of: Any) -> None:
        super().__init__()
        self.made_of, self.state = made_of, None


def _unpickled(stream: io.BytesIO, stored: Storages) -> Any:
    """The value of the next pickle, of protocol 2. Nothing is copied, so that sizes stay the file's."""
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[Any, Any] = {}
    storages: dict[str, Tensor] = {}
    names: list[str] = []
    start = stream.tell()
    for operation, argument, _ in pickletools.genops(stream):
        if stream.tell() - start > MAX_HEADER_BYTES:
            raise Refused(f"a pickle of more than {MAX_HEADER_BYTES} bytes")
        does, takes, items = operation.name, operation.stack_before, stack
        if pickletools.markobject in takes:
            stack = marks.pop()
        else:
            items = [stack.pop() for _ in takes[does in FILLING :]][::-1]
        match does:
            case "PROTO" if argument != 2:
                raise Refused(f"pickle protocol {argument}; save it with torch.save's own, which is 2")
            case "PROTO" | "STOP":
                pass
            case "MARK":
                marks.append(stack)
                stack = []
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":  # the last two of Python 2
                stack.append(argument)
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if does == "EMPTY_LIST" else {})
            case _ if does in CONSTANTS:
                stack.append(CONSTANTS[does])
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "APPEND" | "APPENDS" if isinstance(stack[-1], list):
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" if isinstance(stack[-1], dict):
                # Tuples in tuples, as keys, could take for ever to hash.
                pairs = zip(items[::2], items[1::2], strict=True)
                stack[-1].update((key, value) for key, value in pairs if isinstance(key, str | int | float))
            case "BUILD" if isinstance(stack[-1], _StandIn):
                stack[-1].state = items[0]
            case _ if does in FILLING:
                pass  # a list of items that are no list's, as those of a deque
            case "GLOBAL":
                names.append(str(argument))
                stack.append(_StandIn(argument))
            case "REDUCE" | "NEWOBJ" if not isinstance(items[0].made_of, str):  # a function that was made
                raise Refused(holds_objects(next((n for n in names if n.startswith(CODE)), names[0])))
            case "REDUCE" | "NEWOBJ":
                stack.append(_called(*items))
            case "BINPERSID" if items[0][0] == "module":  # before 1.6: a class beside its source
                stack.append(items[0][1])
            case "BINPERSID":
                stack.append(_storage(storages, stored, *items[0]))
            case _:
                raise Refused(f"damaged, or not of torch.save, which writes no operation {does}")
    for name in names:
        if name.startswith(HARMFUL) or not (storages or name == "collections OrderedDict"):
            raise Refused(holds_objects(name))
    return items[0]


def _called(function: _StandIn, arguments: tuple[Any, ...]) -> Any:
    module, _, name = function.made_of.partition(" ")
    if module == "torch._utils" and name not in REBUILT:
        raise Refused(f"it holds weights of another kind ({name[:60]}); dense float ones are read")
    if (module == "torch._utils" and "parameter" in name) or function.made_of == PARAMETER:
        return arguments[0]
    if module == "torch._utils":
        storage, offset, size, stride = arguments[:4]
        return storage.as_strided(size, stride, offset)  # refuses what lies outside
    stand_in = _StandIn(arguments)
    if function.made_of == "collections OrderedDict" and arguments:  # of Python 2, with its items
        stand_in.update((key, value) for key, value in arguments[0] if isinstance(key, str))
    return stand_in


def _storage(storages: dict[str, Tensor], stored: Storages, what: str, kind: Any, *identity: Any) -> Tensor:
    """The values of a storage: ``identity`` is its key, device, number of items and view, which none has."""
    key, _, count, *view = identity
    if what != "storage" or not key.isdigit() or type(count) is not int or count < 0 or any(view):
        raise TypeError("not a storage")
    if kind.made_of not in DTYPES:
        other = "quantised" if "QInt" in kind.made_of else "of a type that is rarely used"
        raise Refused(f"it holds weights that are {other} ({kind.made_of[:60]}); dense float ones are read")
    dtype = DTYPES[kind.made_of]
    if key not in storages:
        storages[key] = stored(key, count * dtype.itemsize)
    if storages[key].numel() != count * dtype.itemsize:
        raise TypeError(f"two sizes of storage {key[:20]}")
    return storages[key].view(dtype)


def _check_extent(contents: Any) -> None:
    """Refuses values that hold one another, or the same ones again and again, without end."""
    waiting, count = [contents], 0
    while waiting:
        value = waiting.pop()
        inside = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        )
        count += len(inside)
        if count > MAX_VALUES:
            raise Refused("its pickle holds the same values without end")
        waiting.extend(inside)


def _weights(module: Any, nth: Iterator[int]) -> dict[str, Tensor]:
    """What ``module.state_dict()`` would have, in its order; empty for what is no pickled module.

    ``nth`` counts modules and weights, of all modules in the file.
    """
    weights: dict[str, Tensor] = {}
    waiting = [("", module)]
    while waiting:
        prefix, module = waiting.pop()
        state = module.state if isinstance(module, _StandIn) else None
        if not isinstance(state, dict):
            continue
        unsaved = state.get("_non_persistent_buffers_set", _StandIn([[]])).made_of[0]
        for name, value in [*state.get("_parameters", {}).items(), *state.get("_buffers", {}).items()]:
            if isinstance(value, Tensor) and name not in unsaved[:MAX_UNSAVED] and next(nth) < MAX_TENSORS:
                weights[f"{prefix}{name}"[:1000]] = value
        inside = [(f"{prefix}{name}."[:1000], child) for name, child in state.get("_modules", {}).items()]
        waiting += inside[::-1]
        if next(nth) + len(waiting) > MAX_TENSORS:
            raise Refused("its modules lie in one another without end")
    return weights
