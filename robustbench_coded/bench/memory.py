"""Peak memory of one call."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(run: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that the call needs beyond what is in use before it; None if the system does not report it.

    On CUDA the device's memory, else that of this process, whose peak Linux can reset.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        _give_back_freed()
        CLEAR.write_text("5")
        before = _status("VmRSS")
    except OSError:
        return None
    run()
    return max(_status("VmHWM") - before, 0)


def _status(field: str) -> int:
    """A line of the process's status such as ``VmRSS: 1234 kB``, in bytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def _give_back_freed() -> None:
    """Returns freed memory to the system: the call could otherwise reuse what earlier ones allocated."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
