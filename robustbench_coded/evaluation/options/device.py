"""The machine: the device that an evaluation runs on, how much goes through it at once, workers and
their threads.
"""

import importlib.util
import os
from collections.abc import Sequence
from math import prod

import torch

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.models.pixel_model import SMALL_IMAGES, SMALL_PIXELS

# Images in one group of batches. On a CPU a network takes them in pieces (`PixelModel`), small images in
# larger ones, and more gain nothing. On a GPU a CIFAR network's activations and gradients for that many stay
# far below its memory.
CPU_GROUP_IMAGES = 256
CUDA_IMAGES_PER_GIB = 128
KINDS = "cpu, cuda, mps or xpu, with :1 for the second"


def device_named(name: str | None) -> torch.device:
    """``--device``; None and ``auto`` take this machine's accelerator where there is one.

    Raises:
        InputError: a device that torch or this machine does not have.
    """
    found = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    if name is None or name == "auto":
        return found if found is not None and count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is not known; write {KINDS}") from error
    if device.type == "cpu":
        return device
    if device.type not in KINDS and (found is None or device.type != found.type):
        raise InputError(f"--device {name!r} is not supported; write {KINDS}")
    if found is None or device.type != found.type:
        count = 0
    if (device.index or 0) >= count:
        raise InputError(
            f"--device {name!r}: this machine has {count} {device.type.upper()} devices; try cpu"
        )
    return device


def devices(device: torch.device) -> list[str]:
    """The devices that workers share: all of an accelerator's where no index names one."""
    if device.type == "cpu" or device.index is not None:
        return [str(device)]
    return [f"{device.type}:{index}" for index in range(torch.accelerator.device_count())]


def images_in_one_forward(device: torch.device, image_shape: Sequence[int]) -> int:
    """Images of ``image_shape`` (channels, height, width) that may go through a network together.

    On a GPU, from the device's whole memory.
    """
    if device.type != "cuda":
        return SMALL_IMAGES if prod(image_shape[-2:]) <= SMALL_PIXELS else CPU_GROUP_IMAGES
    total = torch.cuda.get_device_properties(device).total_memory
    return max(CPU_GROUP_IMAGES, int(total / 2**30) * CUDA_IMAGES_PER_GIB)


def check_engine_options(config: EvalConfig) -> None:
    """Raises InputError for the first option of the engine that can't be followed."""
    if config.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError('--engine ray: Ray is not installed; install it with: pip install "csrobust[ray]"')
    if config.address is not None and config.engine != "ray":
        raise InputError(f"--address {config.address} names a Ray cluster; add --engine ray, or leave it out")


def worker_count(config: EvalConfig, device: torch.device) -> int:
    """Workers on this machine: as asked for, else one for each device, else one."""
    if config.workers is not None:
        return config.workers
    return len(devices(device))


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
