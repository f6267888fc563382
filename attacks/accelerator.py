"""torch's functions for each kind of accelerator (torch.cuda, torch.xpu, torch.mps, those of other packages),
where it offers it; and what all threads of the process share.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_lock = threading.RLock()


def process_lock() -> threading.RLock:
    """Held by the one thread that changes what belongs to the process.

    These are torch's defaults, the states of the random generators, and classes that have substitutes.
    """
    return _lock


def _make_lock_anew() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_make_lock_anew)  # no thread of the parent's goes on in the child


def module_of(device: torch.device) -> Any:
    """``torch.cuda`` and the like; None for a CPU."""
    return None if device.type == "cpu" else torch.get_device_module(device)


def _in_use() -> Any:
    """The module of this machine's accelerator, once it is in use; else None."""
    device = torch.accelerator.current_accelerator()
    module = None if device is None else module_of(device)
    return module if module and getattr(module, "is_initialized", module.is_available)() else None


def random_states() -> list[Tensor]:
    """States of the accelerators' own random generators; none while no accelerator is in use."""
    module = _in_use()
    if module is None:
        return []
    return module.get_rng_state_all() if hasattr(module, "get_rng_state_all") else [module.get_rng_state()]


def set_random_states(states: list[Tensor]) -> None:
    """Puts back what ``random_states`` gave."""
    if states:
        module = _in_use()
        getattr(module, "set_rng_state_all", lambda given: module.set_rng_state(*given))(states)


def seed_accelerators(seed: int) -> None:
    """Starts their generators at ``seed``."""
    module = _in_use()
    if module is not None:
        getattr(module, "manual_seed_all", module.manual_seed)(seed)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Afterwards the generators of torch (of accelerators, too), numpy and Python are as before."""
    with process_lock():
        before, others = torch.get_rng_state(), random_states()
        of_numpy, of_python = np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            torch.set_rng_state(before)
            set_random_states(others)
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def synchronise(device: torch.device) -> None:
    """Waits until everything asked of the device is computed."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release_memory() -> None:
    """Gives memory that torch keeps for later back to the accelerator."""
    if (module := _in_use()) is not None:
        module.empty_cache()


def device_name(device: torch.device) -> str | None:
    """As its maker calls it; None for a CPU."""
    if device.type == "cpu":
        return None
    named = getattr(module_of(device), "get_device_name", None)
    return device.type if named is None else str(named(device))


@cache
def lacks(device: torch.device) -> frozenset[str]:
    """Which of ``float64`` and ``channels-last`` convolutions the device refuses; tried once. A CPU none."""
    if device.type == "cpu":
        return frozenset()
    missing = set()
    try:
        torch.ones(1, device=device, dtype=torch.float64).sum().item()
    except (RuntimeError, TypeError):
        missing.add("float64")
    try:
        x = torch.ones(1, 2, 4, 4, device=device).to(memory_format=torch.channels_last)
        torch.nn.functional.conv2d(x, x[:, :, :3, :3]).sum().item()
    except (RuntimeError, TypeError):
        missing.add("channels-last")
    return frozenset(missing)


def layout(device: torch.device) -> torch.memory_format:
    """The layout that convolutions run in, where the device has it."""
    return torch.preserve_format if "channels-last" in lacks(device) else torch.channels_last


def double(x: Tensor) -> Tensor:
    """``x`` in float64: on its device, or on the CPU where the device has none."""
    return (x.cpu() if "float64" in lacks(x.device) else x).double()
