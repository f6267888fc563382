"""What a checkpoint's pickle may name and call, each beside an inert stand-in for what it makes.

Every function here checks its arguments as the pickle gives them and refuses, by TypeError or ``Refused``,
what a state dict and the plain data beside it do not need.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustbench_coded.models.refusal import Refused, check_shape

ITEM_BYTES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}


@dataclass(frozen=True)
class Global:
    """A name that the pickle imports: ``"module name"``."""

    path: str


@dataclass(frozen=True)
class Storage:
    """A run of ``numel`` items of one type, ``nbytes`` in all."""

    numel: int
    nbytes: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, checked to lie inside it."""


class Ordered(dict):
    """Stands for a collections.OrderedDict."""


class Attributes:
    """Stands for an argparse.Namespace."""


@dataclass(frozen=True)
class Opaque:
    """Stands for any other object: nothing of its class is imported, and its attributes are dropped."""

    path: str


class NumpyType:
    """Stands for the type of a numpy scalar: an integer, a float or a truth value."""


def expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def store(target: Any, items: list[tuple[Any, Any]]) -> None:
    expect(target, dict)
    for key, value in items:
        # Hashing nested tuples can take for ever.
        if type(key) not in (str, int, float, bool, type(None)):
            raise TypeError(f"a dict's key is a {type(key).__name__}")
        target[key] = value


def _ordered_dict(items: list[Any] | tuple[Any, ...] = ()) -> Ordered:
    result = Ordered()
    store(result, [(key, value) for key, value in items])
    return result


def _counter(counts: dict[Any, Any]) -> dict[Any, Any]:
    if not all(type(count) is int for count in expect(counts, dict).values()):
        raise TypeError("a counter of something else than integers")
    return dict(counts)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    expect(storage, Storage)
    elements = check_shape("a tensor", size, storage.numel)
    if type(stride) is not tuple or len(stride) != len(size):
        raise TypeError("strides that do not fit the shape")
    if (
        type(offset) is not int
        or not all(type(step) is int for step in stride)
        or min(offset, *stride, 0) < 0
    ):
        raise TypeError("negative offset or stride")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if elements and last >= storage.numel:
        raise Refused("a tensor reaches past the end of its storage")
    return Tensor()


def _tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    # Versions of torch before 1.0 wrote None where today's write an empty dict.
    if type(requires_grad) is not bool or (hooks is not None and expect(hooks, dict)) or metadata:
        raise TypeError("a tensor with hooks or flags")
    return _tensor(storage, offset, size, stride)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if type(requires_grad) is not bool or expect(hooks, dict):
        raise TypeError("a parameter with hooks")
    return expect(tensor, Tensor)


def _plain_set(items: Any) -> tuple[Any, ...]:
    store({}, [(item, None) for item in expect(items, list)])
    return tuple(items)


def _size(sides: Any) -> tuple[int, ...]:
    if not all(type(side) is int for side in expect(sides, tuple)):
        raise TypeError("a size of something else than integers")
    return tuple(sides)


def _device(kind: Any, number: Any = 0) -> str:
    if type(kind) is not str or type(number) is not int:
        raise TypeError("not a device")
    return kind


def _encoded(text: Any, coding: Any) -> bytes:
    if type(text) is not str or coding != "latin1":
        raise TypeError("bytes in an unknown coding")
    return text.encode("latin1")


def _numpy_type(name: Any, *flags: Any) -> NumpyType:
    if name not in NUMPY_TYPES or not all(type(flag) is bool for flag in flags):
        raise Refused(f"a numpy array of type {str(name)[:20]} lies beside the weights; save these alone")
    return NumpyType()


def _numpy_scalar(kind: Any, value: Any) -> float:
    expect(kind, NumpyType)
    if len(expect(value, bytes)) > 8:
        raise TypeError("a numpy scalar of more than 8 bytes")
    return 0.0


# What training programs pickle beside the weights that is plain data: settings, sizes, accuracies.
NAMESPACE = "argparse Namespace"
NUMPY_TYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_TORCH_NAMES = "bfloat16 bool float16 float32 float64 int16 int32 int64 int8 uint8"
_TORCH_TYPES = tuple(f"torch {name}" for name in _TORCH_NAMES.split())
NAMED = {NAMESPACE, *_TORCH_TYPES}  # only named, or made without arguments

# Objects of these modules are refused, not dropped: what would be called does something to the machine, or
# they are weights in a form that is not read. torch.optim's are schedules, torch.nn's are losses.
REFUSED_MODULES = (
    "__builtin__", "_codecs", "asyncio", "builtins", "cPickle", "code", "codecs", "commands", "ctypes",
    "importlib", "marshal", "multiprocessing", "nt", "os", "pickle", "pip", "posix", "pty", "runpy", "shutil",
    "signal", "socket", "subprocess", "sys", "threading", "timeit", "torch", "webbrowser",
)  # fmt: skip
DROPPED_OF_TORCH = ("torch.optim.", "torch.nn.")
_PLAIN_TYPES = "bool complex dict float frozenset int list long object slice str tuple xrange"
PLAIN_TYPES = {f"__builtin__ {name}" for name in _PLAIN_TYPES.split()}


def dropped(path: str) -> bool:
    """Whether an object of that ``"module name"`` is passed over."""
    module = path.partition(" ")[0]
    return (
        path in PLAIN_TYPES
        or module.startswith(DROPPED_OF_TORCH)
        or module.partition(".")[0] not in REFUSED_MODULES
    )


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

REBUILD: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "collections Counter": _counter,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor_v2,
    "torch._utils _rebuild_parameter": _parameter,
    "__builtin__ set": _plain_set,
    "torch Size": _size,
    "torch device": _device,
    "_codecs encode": _encoded,
    "numpy dtype": _numpy_type,
    "numpy.core.multiarray scalar": _numpy_scalar,
    "numpy._core.multiarray scalar": _numpy_scalar,
}
