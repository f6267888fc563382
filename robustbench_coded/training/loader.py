"""The batches of one epoch, each prepared while the one before is trained on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from robustbench_coded.data.augment import AUGMENTATIONS
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.training.distributed import Processes
from robustbench_coded.training.streams import stream


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches alone are trained on; a set smaller than one is a single batch."""
    return max(1, images // batch_size)


def epoch_batches(
    data: Dataset, *, batch_size: int, augmentation: str, seed: int, epoch: int, processes: Processes
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
