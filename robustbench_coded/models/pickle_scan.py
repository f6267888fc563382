"""Reads what a checkpoint's pickle asks for without doing it: what must be known before torch allocates.

torch's weights-only mode executes nothing from a file, but it believes the sizes that the file states: a
tensor's shape resizes its storage, and a storage may claim more bytes than the archive holds. This walks the
same operations on inert stand-ins and refuses whatever a state dict does not need.
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from robustbench_coded.models.pickle_stand_ins import (
    ITEM_BYTES,
    NAMED,
    NAMESPACE,
    OTHER_WEIGHTS,
    REBUILD,
    Attributes,
    Global,
    NumpyType,
    Opaque,
    Ordered,
    Storage,
    dropped,
    expect,
    store,
)
from robustbench_coded.models.refusal import MAX_HEADER_BYTES, MAX_TENSORS, Refused

HOW_TO_MEND = "where you trust it, load it in its own program and torch.save(model.state_dict(), FILE)"


@dataclass
class Scan:
    """What a pickle holds.

    Attributes:
        value: dicts, lists, tuples and plain values, with stand-ins for everything else.
        storages: the storages it reads, by their key.
        length: bytes of the pickle.
        dropped: ``"module name"`` of objects that are passed over -> the plain type that is filled in their
            place: ``dict``, ``list`` or ``object``.
    """

    value: Any = None
    storages: dict[str, Storage] = field(default_factory=dict)
    length: int = 0
    dropped: dict[str, type] = field(default_factory=dict)


def scan(data: bytes, start: int = 0, *, id_length: int = 5) -> Scan:
    """Scans the pickle that starts at ``start``.

    Args:
        data: a file, or a part of it.
        start: where the pickle begins.
        id_length: items in a storage's persistent id: 5 in a zip archive, 6 in the format before it.
    Raises:
        Refused: damaged, too large, or asking for anything that a state dict does not need.
    """
    machine = _Machine(id_length)
    stream = BytesIO(data[start : start + MAX_HEADER_BYTES])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd texts in operations that are then refused
            for opcode, argument, _ in pickletools.genops(stream):
                machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"damaged or not a torch checkpoint ({_first_line(error)})") from None
    machine.result.length = stream.tell()
    return machine.result


def holds_objects(path: str) -> str:
    """That a pickle's ``"module name"`` is not loaded, and what to do."""
    name = path.replace(" ", ".")[:100]
    if name.startswith("numpy.") and name.endswith("._reconstruct"):
        return (
            "it holds NumPy arrays in place of weights, which are not loaded; where you trust it, load it "
            "in its own program and torch.save({k: torch.tensor(v) for k, v in weights.items()}, FILE)"
        )
    return f"its pickle holds code or objects ({name}), never loaded; {HOW_TO_MEND}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


class _Machine:
    """The operations that torch's weights-only unpickler knows, on stand-ins."""

    def __init__(self, id_length: int):
        self.id_length = id_length
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}
        self.copied = 0  # items and letters that calls were given
        self.result = Scan()

    def step(self, operation: str, argument: Any) -> None:
        if operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation])
        elif operation in _LITERALS:
            self.stack.append(argument)
        elif operation in _OPERATIONS:
            _OPERATIONS[operation](self, argument)
        else:
            raise Refused(
                f"its pickle does what no state dict needs ({operation}): not loaded; {HOW_TO_MEND}"
            )

    def proto(self, version: int) -> None:
        if version != 2:
            raise Refused(f"pickle protocol {version}; save it with torch.save's own, which is 2")

    def stop(self, _: None) -> None:
        self.result.value = self.stack.pop()

    def mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_since_mark(self, _: None) -> None:
        items = tuple(
            self.pop_mark()
        )  # before self.stack is looked up: this puts back the one below the mark
        self.stack.append(items)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _filled(self, kind: type) -> Any:
        """The container on the stack; a new one for an object that is passed over."""
        if not isinstance(self.stack[-1], Opaque):
            return expect(self.stack[-1], kind)
        self.result.dropped[self.stack[-1].path] = kind
        return kind()

    def append(self, _: None) -> None:
        item = self.stack.pop()
        self._filled(list).append(item)

    def appends(self, _: None) -> None:
        items = self.pop_mark()
        self._filled(list).extend(items)

    def set_item(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        store(self._filled(dict), [(key, value)])

    def set_items(self, _: None) -> None:
        items = self.pop_mark()
        store(self._filled(dict), list(zip(items[::2], items[1::2], strict=True)))

    def import_name(self, path: str) -> None:
        if path in OTHER_WEIGHTS:
            raise Refused(f"it holds weights that are {OTHER_WEIGHTS[path]}; dense float ones are read")
        if path not in ITEM_BYTES and path not in REBUILD and path not in NAMED:
            if not dropped(path):
                raise Refused(holds_objects(path))
            self.result.dropped.setdefault(path, object)
        self.stack.append(Global(path))

    def reduce(self, _: None) -> None:
        arguments = expect(self.stack.pop(), tuple)
        function = expect(self.stack.pop(), Global)
        # What is in the file once can be copied by a call of a few bytes, again and again.
        self.copied += sum(len(one) for one in arguments if isinstance(one, str | list | tuple | dict))
        if self.copied > MAX_HEADER_BYTES:
            raise Refused(f"its pickle copies more than it holds: not loaded; {HOW_TO_MEND}")
        if function.path in self.result.dropped:
            self.stack.append(Opaque(function.path))
        elif function.path not in REBUILD:
            raise TypeError("a storage type is called")
        else:
            self.stack.append(REBUILD[function.path](*arguments))

    def new(self, _: None) -> None:
        arguments, made = self.stack.pop(), expect(self.stack.pop(), Global)
        if made.path in self.result.dropped:
            self.stack.append(Opaque(made.path))
            return
        if made.path != NAMESPACE or arguments != ():
            raise Refused(f"its pickle does what no state dict needs (NEWOBJ): not loaded; {HOW_TO_MEND}")
        self.stack.append(Attributes())

    def build(self, _: None) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Opaque):
            return
        if isinstance(self.stack[-1], NumpyType):
            if not all(type(part) in (int, str, type(None)) for part in expect(state, tuple)):
                raise TypeError("a numpy type with more than a byte order")
            return
        expect(state, dict)
        if isinstance(self.stack[-1], Attributes):
            return  # set_items has seen that their names are plain
        expect(self.stack[-1], Ordered)
        # An attribute of any other name could hide a method that is called later.
        if not state.keys() <= {"_metadata"}:
            raise TypeError("attributes set on a dict")

    def persistent_id(self, _: None) -> None:
        identity = expect(self.stack.pop(), tuple)
        if identity[:1] == ("module",):  # a whole network, before 1.6
            raise Refused(holds_objects(expect(identity[1], Global).path))
        if len(identity) != self.id_length or identity[0] != "storage" or identity[5:] not in ((), (None,)):
            raise TypeError("not a storage")
        kind, key, location, numel = identity[1:5]
        if type(key) is not str or type(location) is not str or type(numel) is not int or numel < 0:
            raise TypeError("not a storage")
        storage = Storage(numel, numel * ITEM_BYTES[expect(kind, Global).path])
        if self.result.storages.setdefault(key, storage) != storage:
            raise TypeError(f"two sizes of storage {key[:20]}")
        if len(self.result.storages) > MAX_TENSORS:
            raise Refused(f"more than {MAX_TENSORS} tensors")
        self.stack.append(storage)


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.proto,
    "STOP": _Machine.stop,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.import_name,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
