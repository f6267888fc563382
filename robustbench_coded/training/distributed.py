"""One process, or several that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist


class Processes(NamedTuple):
    """This process among those of the run."""

    rank: int
    world: int  # number of processes
    local_rank: int  # number of its GPU on this machine

    @property
    def is_first(self) -> bool:
        return self.rank == 0


ALONE = Processes(rank=0, world=1, local_rank=0)


def processes_of_torchrun() -> Processes:
    """What torchrun's environment says of this process; ``ALONE`` without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    return Processes(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
    )


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Joins the group that torchrun's environment describes, and leaves it at the end."""
    processes = processes_of_torchrun()
    if processes.world == 1:
        yield processes
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield processes
    finally:
        dist.destroy_process_group()


def device_of(name: str, processes: Processes) -> torch.device:
    """The device to train on: this process's GPU where the run is on several."""
    if name == "cuda" and processes.world > 1:
        return torch.device("cuda", processes.local_rank)
    return torch.device(name)
