"""What ``--engine``, ``--workers`` and ``--threads`` come to on this machine."""

import importlib.util
import os

import torch

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig


def check_engine_options(config: EvalConfig) -> None:
    """Raises InputError for the first option of the engine that can't be followed."""
    if config.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError('--engine ray: Ray is not installed; install it with: pip install "csrobust[ray]"')
    if config.address is not None and config.engine != "ray":
        raise InputError(f"--address {config.address} names a Ray cluster; add --engine ray, or leave it out")


def worker_count(config: EvalConfig, device: torch.device) -> int:
    """Workers on this machine: as asked for, else one for each GPU, else one."""
    if config.workers is not None:
        return config.workers
    if device.type == "cuda" and device.index is None:
        return max(1, torch.cuda.device_count())
    return 1


def thread_count(config: EvalConfig, workers: int) -> int:
    """CPU threads of each worker: as asked for, else `threads_each`."""
    return config.threads or threads_each(workers)


def threads_each(workers: int) -> int:
    """CPU threads of each worker: OMP_NUM_THREADS, else the cores shared out evenly."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    stated = int(given) if given.isdecimal() else 0
    return stated or max(1, _cores() // workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
