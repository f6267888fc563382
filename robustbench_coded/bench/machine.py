"""The machine that a measurement was made on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

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
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
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
