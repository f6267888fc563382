"""The pickle of a torch file, read by an unpickler that knows tensors and plain data alone.

Whatever a pickle imports, it gets something of this module: a function that checks its arguments and rebuilds
a tensor or a plain value, or ``Opaque``. No other operations than those of torch.save exist. So nothing of a
file is imported or called, and nothing larger than the file is allocated.
"""

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
import torch

from robustbench_coded.models.refusal import MAX_HEADER_BYTES, MAX_TENSORS, Refused, check_shape

HOW_TO_MEND = "where you trust it, load it in its own program and torch.save(model.state_dict(), FILE)"

STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}

# What weights are rebuilt by that are no plain tensors.
OTHER_WEIGHTS = {
    "torch._utils _rebuild_sparse_tensor": "sparse",
    "torch._utils _rebuild_qtensor": "quantised",
    "torch._utils _rebuild_meta_tensor_no_storage": "of the meta device, without values",
    "torch._utils _rebuild_tensor_v3": "of a type that is rarely used, such as float8 or uint16",
    "torch.storage UntypedStorage": "of a type that is rarely used, such as float8 or uint16",
    "torch ComplexFloatStorage": "complex",
    "torch ComplexDoubleStorage": "complex",
    "torch QInt8Storage": "quantised",
    "torch QUInt8Storage": "quantised",
}

# A file that names anything of these modules is refused: it would do something to the machine, or its weights
# are in a form that is not read. Other objects are passed over, as torch.optim's schedules.
REFUSED_MODULES = (
    "__builtin__", "_codecs", "asyncio", "builtins", "cPickle", "code", "codecs", "commands", "ctypes",
    "importlib", "marshal", "multiprocessing", "nt", "os", "pickle", "pip", "posix", "pty", "runpy", "shutil",
    "signal", "socket", "subprocess", "sys", "threading", "timeit", "torch", "webbrowser",
)  # fmt: skip
PASSED_OF_TORCH = ("torch.optim.", "torch.nn.")
_PLAIN_TYPES = "bool complex dict float frozenset int list long object slice str tuple xrange"
_TORCH_TYPES = "bfloat16 bool float16 float32 float64 int16 int32 int64 int8 uint8"
PASSED = {
    *(f"__builtin__ {name}" for name in _PLAIN_TYPES.split()),
    *(f"torch {name}" for name in _TORCH_TYPES.split()),
}

NUMPY_TYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class Opaque(dict):
    """Stands for an object that is passed over: only items that it has like a dict are kept."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def append(self, _: Any) -> None:
        """Drops what a list of an unknown kind is given."""

    extend = append


def holds_objects(path: str) -> str:
    """That a pickle's ``"module name"`` is not loaded, and what to do."""
    name = path.replace(" ", ".")[:100]
    if name.startswith("numpy.") and name.endswith("._reconstruct"):
        return (
            "it holds NumPy arrays in place of weights, which are not loaded; where you trust it, load it "
            "in its own program and torch.save({k: torch.tensor(v) for k, v in weights.items()}, FILE)"
        )
    return f"its pickle holds code or objects ({name}), never loaded; {HOW_TO_MEND}"


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _stored(target: Any, items: list[tuple[Any, Any]]) -> Any:
    """``target``, a dict, with these items."""
    _expect(target, dict)
    for key, value in items:
        # Hashing nested tuples can take for ever.
        if type(key) not in (str, int, float, bool, type(None)):
            raise TypeError(f"a dict's key is a {type(key).__name__}")
        target[key] = value
    return target


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    check_shape("a tensor", size, _expect(storage, torch.Tensor).numel())
    return storage.as_strided(size, stride, offset)  # inside the storage, or a RuntimeError


def _tensor_v2(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    return _tensor(storage, offset, size, stride)


def _encoded(text: Any, coding: Any) -> bytes:
    if type(text) is not str or coding != "latin1":
        raise TypeError("bytes in an unknown coding")
    return text.encode("latin1")


def _numpy_type(name: Any, *_: Any) -> np.dtype:
    if name not in NUMPY_TYPES:
        raise Refused(f"a numpy array of type {str(name)[:20]} lies beside the weights; save these alone")
    return np.dtype(name)


REBUILD: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda items=(): _stored({}, [(key, value) for key, value in items]),
    "collections Counter": lambda counts: dict(_expect(counts, dict)),
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor_v2,
    "torch._utils _rebuild_parameter": lambda tensor, *_: _expect(tensor, torch.Tensor),
    "__builtin__ set": lambda items: tuple(_expect(items, list)),
    "torch Size": lambda sides: tuple(_expect(sides, tuple)),
    "torch device": lambda kind, *_: _expect(kind, str),
    "_codecs encode": _encoded,
    "numpy dtype": _numpy_type,
    "numpy.core.multiarray scalar": lambda kind, value: np.frombuffer(value, kind)[0],
    "numpy._core.multiarray scalar": lambda kind, value: np.frombuffer(value, kind)[0],
}

# From key, type and number of items to a tensor [items] that holds them, or will.
FindStorage = Callable[[str, torch.dtype, int], torch.Tensor]


@dataclass(frozen=True)
class Unpickled:
    """What a pickle holds.

    Attributes:
        value: dicts, lists, tuples, tensors and plain values.
        length: bytes of the pickle.
        passed_over: ``"module name"`` of the objects that ``Opaque`` stands for.
    """

    value: Any
    length: int
    passed_over: tuple[str, ...]


def unpickled(
    data: bytes, start: int = 0, *, storage: FindStorage | None = None, id_length: int = 5
) -> Unpickled:
    """Reads the pickle that starts at ``start``.

    Args:
        data: a file, or a part of it.
        start: where the pickle begins.
        storage: finds the storages that it names; None where there are none.
        id_length: items in a storage's persistent id: 5 in a zip archive, 6 in the format before it.
    Raises:
        Refused: damaged, too large, or asking for anything that a state dict does not need.
    """
    stream = BytesIO(data[start : start + MAX_HEADER_BYTES])
    reader = _Unpickler(stream, storage, id_length)
    try:
        value = reader.load()
    except Refused:
        raise
    except Exception as error:  # damage shows in a dozen types
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise Refused(f"damaged or not a torch checkpoint ({reason})") from None
    return Unpickled(value, stream.tell(), tuple(reader.passed_over))


_OPERATIONS = (
    "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINSTRING", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "EMPTY_LIST",
    "EMPTY_DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "BINPERSID",
    "GLOBAL",
)  # fmt: skip


def _refused(operation: str) -> Callable[[Any], None]:
    def refuse(_: Any) -> None:
        raise Refused(f"its pickle does what no state dict needs ({operation}): not loaded; {HOW_TO_MEND}")

    return refuse


class _Unpickler(pickle._Unpickler):
    """The operations that torch.save writes; those that call or set something check what it is."""

    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        ord(operation.code): pickle._Unpickler.dispatch[ord(operation.code)]
        if operation.name in _OPERATIONS
        else _refused(operation.name)
        for operation in pickletools.opcodes
    }

    def __init__(self, stream: BytesIO, storage: FindStorage | None, id_length: int) -> None:
        super().__init__(stream, encoding="latin1")
        self.storage, self.id_length = storage, id_length
        self.copied = 0  # items and letters that calls were given
        self.sizes: dict[str, tuple[torch.dtype, int]] = {}
        self.storages: dict[str, torch.Tensor] = {}
        self.passed_over: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for here."""
        path = f"{module} {name}"
        if path in OTHER_WEIGHTS:
            raise Refused(f"it holds weights that are {OTHER_WEIGHTS[path]}; dense float ones are read")
        if path in STORAGES or path in REBUILD:
            return STORAGES.get(path) or REBUILD[path]
        refused = module.partition(".")[0] in REFUSED_MODULES and not module.startswith(PASSED_OF_TORCH)
        if refused and path not in PASSED:
            raise Refused(holds_objects(path))
        self.passed_over[path] = None
        return Opaque

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """A storage."""
        if pid[:1] == ("module",):  # a whole network, before 1.6
            raise Refused(holds_objects(next(reversed(self.passed_over), "torch.nn Module")))
        if self.storage is None or len(pid) != self.id_length or pid[0] != "storage":
            raise TypeError("not a storage")
        kind, key, location, items = pid[1:5]
        plain = type(key) is str and type(location) is str and type(items) is int
        if not plain or not isinstance(kind, torch.dtype) or items < 0 or pid[5:] not in ((), (None,)):
            raise TypeError("not a storage")
        if self.sizes.setdefault(key, (kind, items)) != (kind, items):
            raise TypeError(f"two sizes of storage {key[:20]}")
        if len(self.sizes) > MAX_TENSORS:
            raise Refused(f"more than {MAX_TENSORS} tensors")
        if key not in self.storages:
            self.storages[key] = self.storage(key, kind, items)
        return self.storages[key]

    def load_proto(self) -> None:
        version = self.read(1)[0]
        if version != 2:
            raise Refused(f"pickle protocol {version}; save it with torch.save's own, which is 2")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _stored(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _stored(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def load_reduce(self) -> None:
        arguments, function = _expect(self.stack.pop(), tuple), self.stack.pop()
        # What is in the file once can be copied by a call of a few bytes, again and again.
        self.copied += sum(len(one) for one in arguments if isinstance(one, str | list | tuple | dict))
        if self.copied > MAX_HEADER_BYTES:
            raise Refused(f"its pickle copies more than it holds: not loaded; {HOW_TO_MEND}")
        self.stack.append(function(*arguments))

    def load_newobj(self) -> None:
        self.stack.pop()
        if self.stack.pop() is not Opaque:
            _refused("NEWOBJ")(self)
        self.stack.append(Opaque())

    def load_build(self) -> None:
        self.stack.pop()  # the state of an object: nothing here has one

    dispatch |= {
        pickle.PROTO[0]: load_proto,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
    }
