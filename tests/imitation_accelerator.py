"""A test bed: an accelerator that does not exist, for machines without one.

``register()`` gives torch two devices, ``imitation:0`` and ``imitation:1``, on its place for backends from
outside (PrivateUse1). A tensor on one says so everywhere and computes on the CPU, to the same numbers. Like a
real device it refuses operations between devices, ``numpy()`` and generators of the CPU; has random numbers
of its own; counts where the host would wait for it; and runs out of memory at ``limit_bytes``. Switches stand
for what devices lack: ``float64`` and ``channels_last``. ``work`` is what worker processes run on it.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from robustbench_coded.evaluation.engine import worker

NAME, COUNT = "imitation", 2
aten = torch.ops.aten

# Operators whose answer, or its shape, the host has to wait for.
WAITS = {
    "aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::_unique2",
    "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
}  # fmt: skip


class State:
    """What the devices count, and what they lack."""

    present = False  # they are there while a test says so
    limit_bytes: int | None = None
    float64 = True
    channels_last = True
    named: int | None = None  # the device that Python has named in the call that runs
    last = 0  # the device of the last operator
    ran_out = 0  # how often an allocation failed
    waits: ClassVar[Counter] = Counter()  # by operator and by the file and line that asked
    allocated = [0] * COUNT
    peak = [0] * COUNT
    generators: ClassVar = [torch.Generator() for _ in range(COUNT)]


class Block:
    """The memory of a storage: counted until the last tensor on it is gone."""

    size, index = 0, 0  # of one that torch.compile makes without more

    def __init__(self, storage, index):
        self.size, self.index, self.storage = 0, index, storage
        wanted = State.allocated[index] + storage.nbytes()
        if State.limit_bytes is not None and wanted > State.limit_bytes:
            State.ran_out += 1
            raise torch.OutOfMemoryError(
                f"imitation out of memory: {wanted} bytes wanted of {State.limit_bytes}"
            )
        self.size, State.allocated[index] = storage.nbytes(), wanted
        State.peak[index] = max(State.peak[index], wanted)

    def __del__(self, allocated=State.allocated):
        allocated[self.index] -= self.size


_blocks = WeakValueDictionary()


class OnDevice(torch.Tensor):
    """A tensor that is on a device, and has its numbers in ``held``, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held, index):
        if held.dtype == torch.float64 and not State.float64:
            raise TypeError(f"Cannot convert an {NAME} Tensor to float64: the device has no float64")
        # Torch's engine knows one device of such a backend, number 0; which of the two it is, `device` says.
        self = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        self.held, self.index = held, index
        storage = held.untyped_storage()
        self.block = _blocks.get((storage.data_ptr(), index)) if storage.nbytes() else None
        if self.block is None or not self.block.size:
            self.block = _blocks[storage.data_ptr(), index] = Block(storage, index)
        return self

    @property
    def device(self):
        return torch.device(NAME, self.index)

    def __deepcopy__(self, memo):
        with torch.no_grad():
            copied = self.clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True
        return memo.setdefault(id(self), copied)

    def __reduce_ex__(self, protocol):
        return OnDevice, (self.held, self.index)

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"OnDevice({self.held}, device='{NAME}:{self.index}')"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, dict(kwargs or {}))


def wait_counted(name):
    """Counts an operator for which the host waits, by the line of the project that asked for it."""
    frame, here = sys._getframe(2), Path(__file__).parents[1]
    while frame and not any(
        frame.f_code.co_filename.startswith(str(here / of)) for of in ("attacks", "robustbench_coded")
    ):
        frame = frame.f_back
    where = f"{Path(frame.f_code.co_filename).relative_to(here)}:{frame.f_lineno}" if frame else "elsewhere"
    State.waits[name.removeprefix("aten::"), where] += 1


def run(func, args, kwargs):
    """One operator, on the CPU; its answers are on the device of its arguments, or on the one named."""
    name = func._schema.name
    leaves = pytree.tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    theirs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnDevice)]
    moves = name in ("aten::copy_", "aten::_copy_from", "aten::_to_copy")
    if name in ("aten::index", "aten::index_put", "aten::index_put_"):
        theirs = [one for one in theirs if one is args[0]]  # places may be named by the host
    on = {one.index for one in ours}
    if not moves and (len(on) > 1 or (ours and any(one.ndim for one in theirs))):
        found = sorted({str(one.device) for one in (*ours, *theirs)})
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} ({name})")
    target = min(on, default=None)
    if (named := kwargs.get("device")) is not None:
        # Where Python names none, torch repeats a tensor's own device, and says 0 of both.
        own = State.last if target is None else target
        target = own if State.named is None else State.named
        target = None if torch.device(named).type == "cpu" else target
        kwargs["device"] = torch.device("cpu")
    State.last = State.last if target is None else target
    if "pin_memory" in kwargs:
        kwargs["pin_memory"] = False
    generator = next((leaf for leaf in leaves if isinstance(leaf, torch.Generator)), None)
    if generator is not None and target is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generator.device}'")
    if not State.channels_last and kwargs.get("memory_format") == torch.channels_last:
        raise RuntimeError(f"{name}: channels_last is not supported on {NAME}")
    if name == "aten::_copy_from":
        func, args = aten.copy_.default, (args[1], args[0])
    to_host = name == "aten::_to_copy" and ours and target is None
    to_host = to_host or (func is aten.copy_.default and not isinstance(args[0], OnDevice))
    masked = name in ("aten::index", "aten::index_put_", "aten::index_put") and any(
        one.dtype in (torch.bool, torch.uint8) for one in ours[1:]
    )
    if name in WAITS or to_host or masked:
        wait_counted("copy to the host" if to_host else name)
    if not ours and target is not None and name == "aten::empty" and not State.float64:
        OnDevice(torch.empty(0, dtype=kwargs.get("dtype") or torch.get_default_dtype()), target)
    plain_args, plain_kwargs = pytree.tree_map_only(OnDevice, lambda one: one.held, (args, kwargs))
    drawing = torch.Tag.nondeterministic_seeded in func.tags and target is not None
    with numbers_of(target) if drawing else nothing():
        out = func(*plain_args, **plain_kwargs)
    if target is None and not (func is aten.copy_.default and isinstance(args[0], OnDevice)):
        return args[0] if func is aten.copy_.default else out
    known = {id(one.held): one for one in ours}
    for one in ours:
        if one.shape != one.held.shape:
            raise NotImplementedError(f"{name} changes a shape in place")
    if func is aten.copy_.default:
        return args[0]
    return pytree.tree_map_only(
        torch.Tensor, lambda one: known[id(one)] if id(one) in known else OnDevice(one, target), out
    )


class DevicesNamed(TorchFunctionMode):
    """Notes which device a call in Python names: one without a number is the first, as for torch.cuda."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, before = kwargs or {}, State.named
        for one in (kwargs.get("device"), *args[1:2]):
            if func is torch.Tensor.to and isinstance(one, OnDevice):
                one = one.device
            if isinstance(one, (str, torch.device)) and str(one).startswith(NAME):
                State.named = torch.device(one).index or 0
                # To torch both are number 0, so that it would leave the tensor where it is.
                if func is torch.Tensor.to and getattr(args[0], "index", State.named) != State.named:
                    kwargs["copy"] = True
        try:
            return func(*args, **kwargs)
        finally:
            State.named = before


@contextmanager
def nothing():
    yield


@contextmanager
def numbers_of(index):
    """Torch's default generator stands for that of a device."""
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(State.generators[index].get_state())
    try:
        yield
    finally:
        State.generators[index].set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)


def index_of(device):
    return 0 if device is None else torch.device(device).index or 0


class Module:
    """``torch.imitation``: what torch and its users ask of a backend, as torch.cuda and torch.xpu answer."""

    def is_available(self):
        return State.present

    is_initialized = is_available

    def device_count(self):
        return COUNT if State.present else 0

    def _is_in_bad_fork(self):
        return False

    def current_device(self):
        return 0

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def get_device_name(self, device=None):
        return "an imitation"

    def empty_cache(self):
        pass

    def memory_allocated(self, device=None):
        return State.allocated[index_of(device)]

    def max_memory_allocated(self, device=None):
        return State.peak[index_of(device)]

    def reset_peak_memory_stats(self, device=None):
        State.peak[:] = State.allocated

    def mem_get_info(self, device=None):
        total = State.limit_bytes or 2**34
        return total - State.allocated[index_of(device)], total

    def manual_seed_all(self, seed):
        for generator in State.generators:
            generator.manual_seed(seed)

    manual_seed = manual_seed_all

    def get_rng_state(self, device=None):
        return State.generators[index_of(device)].get_state()

    def set_rng_state(self, state, device=None):
        State.generators[index_of(device)].set_state(state)

    def get_rng_state_all(self):
        return [generator.get_state() for generator in State.generators]

    def set_rng_state_all(self, states):
        for generator, state in zip(State.generators, states, strict=True):
            generator.set_state(state)


# Factories that would resize an empty tensor, which has its shape for good here.
RESIZED = (
    "arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m", "randperm",
    "randperm.generator",
)  # fmt: skip
_libraries = []


def run_named(op, *args, **kwargs):
    name, _, overload = op.partition(".")
    return run(getattr(getattr(aten, name), overload or "default"), args, kwargs)


def register():
    """Gives torch the devices, once a process; there is no way back."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    # A parameter that is cast becomes the new tensor: torch would put its numbers into the old one.
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.accelerator.synchronize = lambda device=None: None  # torch has no streams for such a backend
    everything, one = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    everything.fallback(lambda op, *args, **kwargs: run(op, args, kwargs), "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    # Inside of torch.tensor torch does not find an operator's fallback.
    one.impl(
        "_copy_from", lambda x, y, non_blocking=False: run(aten._copy_from.default, (x, y), {}), "PrivateUse1"
    )
    for op in RESIZED:
        one.impl(op, partial(run_named, op), "PrivateUse1")
    _libraries.extend((everything, one))
    DevicesNamed().__enter__()


def appear():
    """Gives a process of its own the devices for good."""
    register()
    State.present = True


def work(pipe, setup, folder):
    """What a worker process runs that has the devices."""
    appear()
    worker.work(pipe, setup, folder)
