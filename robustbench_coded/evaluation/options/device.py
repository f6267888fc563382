"""The machine: the device that an evaluation runs on, how much goes through it at once, workers and
their threads.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from attacks import accelerator, gradients
from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import images_at_once

# Images in one group of batches. On a CPU a network takes them in pieces (`PixelModel`), small images in
# larger ones, and more gain nothing. On a GPU a CIFAR network's activations and gradients for that many stay
# far below its memory; others are measured.
CPU_GROUP_IMAGES = 256
IMAGES_PER_GIB = 128
SHARE_OF_FREE = 0.5
KINDS = ("cpu", "cuda", "mps", "xpu")
KNOWN = "cpu, cuda, mps or xpu, with :1 for the second"


def device_named(name: str | None) -> torch.device:
    """``--device``; None and ``auto`` take this machine's accelerator where there is one.

    Raises:
        InputError: a device that torch or this machine does not have.
    """
    current = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    if name is None or name == "auto":
        return current if current is not None and count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is not known; write {KNOWN}") from error
    if device.type == "cpu":
        return device
    if device.type not in KINDS and (current is None or device.type != current.type):
        raise InputError(f"--device {name!r} is not supported; write {KNOWN}")
    if current is None or device.type != current.type:
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
    """The most images of ``image_shape`` (channels, height, width) that go through a network together.

    On an accelerator that tells its memory, from the whole of it; see ``images_that_fit``.
    """
    on_cpu = images_at_once(prod(image_shape[-2:]), CPU_GROUP_IMAGES)
    if not hasattr(module := accelerator.module_of(device), "mem_get_info"):
        return on_cpu
    return max(on_cpu, int(module.mem_get_info(device)[1] / 2**30) * IMAGES_PER_GIB)


def images_that_fit(device: torch.device, compute: Callable[[], object], images: int, most: int) -> int:
    """How many images ``compute`` could take in half of the memory that is free, at most ``most``.

    It is called once, with ``images`` images. A power of two where it is less than ``most``, so that a little
    more or less free memory changes nothing. ``most`` where the device does not tell its memory.
    """
    if not hasattr(module := accelerator.module_of(device), "mem_get_info"):
        return most
    module.reset_peak_memory_stats(device)
    before = module.memory_allocated(device)
    compute()
    each = max(1, (module.max_memory_allocated(device) - before) // images)
    fitting = max(1, int(module.mem_get_info(device)[0] * SHARE_OF_FREE / each))
    return most if fitting >= most else 2 ** (fitting.bit_length() - 1)


def gradient_of_sum(model: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A forward and backward, as attacks ask for it."""
    leaf = x.detach().clone().requires_grad_()
    gradients.gradient_or_zero(gradients.recorded(model, leaf).sum(), leaf)


def worker_count(workers: int | None, device: torch.device) -> int:
    """Workers on this machine: the requested number, else one for each device, else one.

    Raises:
        InputError: some are requested by a process that may start none.
    """
    child = multiprocessing.current_process().daemon  # of a Pool
    if child and workers is not None:
        mend = "leave workers out, or start it by concurrent.futures.ProcessPoolExecutor"
        raise InputError(f"--workers {workers}: a process of multiprocessing.Pool has none; {mend}")
    return (1 if child else len(devices(device))) if workers is None else workers


def threads_each(workers: int) -> int:
    """CPU threads of each worker: OMP_NUM_THREADS, else the cores shared out evenly."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    stated = int(given) if given.isdecimal() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return stated or max(1, cores // workers)
