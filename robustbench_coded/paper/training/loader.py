"""The batches of one epoch and the random numbers behind them: streams, validation split, processes."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from robustbench_coded.data.augment import AUGMENTATIONS
from robustbench_coded.data.dataset import Dataset

# Named streams of random numbers for training.
#
# A stream is named by (seed, purpose, index), so a run that was killed goes on from the start of an epoch
# with the numbers it would have had, and no number depends on torch's global generator.


Purpose = Literal["initialisation", "split", "order", "augmentation", "recipe", "dropout", "defence"]


def stream_seed(seed: int, purpose: Purpose, index: int = 0, rank: int = 0) -> int:
    """A 32-bit seed for one stream.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for.
        index: the epoch, where the purpose returns every epoch.
        rank: the process, where processes must not share their numbers.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"expected a purpose out of {', '.join(get_args(Purpose))}, got {purpose!r}")
    digest = hashlib.blake2b(f"train/{seed}/{purpose}/{index}/{rank}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def stream(seed: int, purpose: Purpose, index: int = 0, rank: int = 0) -> torch.Generator:
    """The CPU generator of one named stream, at its beginning; arguments as in :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, index, rank))


def train_validation(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Holds out a random ``share`` of the images, another for every seed; None where that is no image."""
    held_out = round(len(data) * share)
    if not held_out:
        return data, None
    order = torch.randperm(len(data), generator=stream(seed, "split")).numpy()
    return data.subset(np.sort(order[held_out:])), data.subset(np.sort(order[:held_out]))


class LoaderProcesses(NamedTuple):
    """This process among those of the run."""

    rank: int
    world: int  # number of processes
    local_rank: int  # number of its GPU on this machine

    @property
    def is_first(self) -> bool:
        return self.rank == 0


ALONE = LoaderProcesses(rank=0, world=1, local_rank=0)


def processes_of_torchrun() -> LoaderProcesses:
    """What torchrun's environment says of this process; ``ALONE`` without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    return LoaderProcesses(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
    )


@contextmanager
def joined_processes(device: str) -> Iterator[LoaderProcesses]:
    """Joins the group that torchrun's environment describes, and leaves it at the end."""
    processes = processes_of_torchrun()
    if processes.world == 1:
        yield processes
        return
    dist.init_process_group(dist.get_default_backend_for_device(device))
    try:
        yield processes
    finally:
        dist.destroy_process_group()


def device_of(name: str, processes: LoaderProcesses) -> torch.device:
    """The device to train on: this process's GPU where the run is on several."""
    device = torch.device(name)
    if device.type != "cpu" and device.index is None and processes.world > 1:
        return torch.device(device.type, processes.local_rank)
    return device


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches alone are trained on; a set smaller than one is a single batch."""
    return max(1, images // batch_size)


def epoch_batches(
    data: Dataset, *, batch_size: int, augmentation: str, seed: int, epoch: int, processes: LoaderProcesses
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's part of each batch, on the CPU: augmented x ``[k, C, H, W]`` and y ``[k]``.

    The order is a new permutation in every epoch. A last batch that is not whole is left out, because the
    codec's size and batch-norm depend on the size of the batch.
    """
    order = torch.randperm(len(data), generator=stream(seed, "order", epoch))
    generator = stream(seed, "augmentation", epoch, processes.rank)
    augment = AUGMENTATIONS[augmentation]

    def prepare(step: int) -> tuple[Tensor, Tensor]:
        rows = order[step * batch_size : (step + 1) * batch_size][processes.rank :: processes.world]
        x, y = data.batch(rows)
        return augment(x, generator), y

    # One worker alone, so the augmentation's stream is read in the order of the steps.
    with ThreadPoolExecutor(max_workers=1) as worker:
        steps = steps_per_epoch(len(data), batch_size)
        coming = worker.submit(prepare, 0)
        for step in range(steps):
            ready = coming.result()
            if step + 1 < steps:
                coming = worker.submit(prepare, step + 1)
            yield ready
