"""How the bench measures: times in turn, peaks of memory, and the machine that they belong to."""

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from attacks.accelerator import device_name, module_of, synchronise


@dataclass(frozen=True)
class TimedContender:
    """Something to be timed.

    Attributes:
        name: as printed.
        images: images through the network in one call, one per forward (with its backward, if any).
        run: one call.
        against: name of the contender whose cost it is compared with; None for none.
    """

    name: str
    images: int
    run: Callable[[], Any]
    against: str | None = None


@dataclass(frozen=True)
class TimingSpread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "TimingSpread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender.

    Attributes:
        name, images, against: as of the contender.
        seconds: wall time of each call, in the order of the rounds.
        cost: time per image over that of ``against``, round by round; None without it.
    """

    name: str
    images: int
    against: str | None
    seconds: tuple[float, ...]
    cost: TimingSpread | None

    @property
    def per_image(self) -> TimingSpread:
        """Seconds."""
        return TimingSpread.of([seconds / self.images for seconds in self.seconds])


def interleaved(contenders: Sequence[TimedContender], rounds: int, device: torch.device) -> list[Timing]:
    """Calls each contender once per round, in alternating order, after one round that is not counted.

    Other load on the machine then affects all contenders alike and cancels in ratios within a round.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(-1, rounds):
        for contender in contenders if turn % 2 else reversed(contenders):
            taken = _timed(contender.run, device)
            if turn >= 0:
                seconds[contender.name].append(taken)
    images = {contender.name: contender.images for contender in contenders}

    def cost(contender: TimedContender) -> TimingSpread | None:
        if contender.against is None:
            return None
        own, other = seconds[contender.name], seconds[contender.against]
        scale = images[contender.against] / contender.images
        return TimingSpread.of([scale * a / b for a, b in zip(own, other, strict=True)])

    return [Timing(c.name, c.images, c.against, tuple(seconds[c.name]), cost(c)) for c in contenders]


def _timed(run: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


PACKAGES = ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox", "pyautoattack")


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, threads and load, as plain data; versions of everything compared."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        # Runnable processes over the last minute; more than cores means that processes waited.
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "device": str(device),
    }
    if device.type != "cpu":
        facts["gpu"] = device_name(device)
    return {**facts, "versions": {"python": platform.python_version(), **_versions()}}


def in_words(facts: dict[str, Any]) -> str:
    """What :func:`machine` found, in one line."""
    told = {**facts, **facts["versions"]}
    del told["versions"]
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(run: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that the call needs beyond what is in use before it; None if the system does not report it.

    Memory of a device that counts it, else that of this process, whose peak Linux can reset.
    """
    gc.collect()
    module = module_of(device)
    if hasattr(module, "max_memory_allocated"):
        module.reset_peak_memory_stats(device)
        before = module.memory_allocated(device)
        run()
        return int(module.max_memory_allocated(device) - before)
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
