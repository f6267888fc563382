"""The batches of one epoch and the random numbers behind them: streams, validation split."""

import hashlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.data.augment import shift, shift_and_flip, unchanged
from robustbench_coded.data.dataset import Dataset

# Named streams of random numbers for training.
#
# A stream is named by (seed, purpose, index), so a run that was killed goes on from the start of an epoch
# with the numbers it would have had, and no number depends on torch's global generator.


AUGMENTATIONS = {"none": unchanged, "shift": shift, "shift-flip": shift_and_flip}

Purpose = Literal["initialisation", "split", "order", "augmentation", "recipe", "dropout", "defence"]


def stream_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 32-bit seed for one stream.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for.
        index: the epoch, where the purpose returns every epoch.
    """
    digest = hashlib.blake2b(f"train/{seed}/{purpose}/{index}/0".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def stream(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """The CPU generator of one named stream, at its beginning; arguments as in :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, index))


def train_validation(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Holds out a random ``share`` of the images, another for every seed; None where that is no image."""
    held_out = round(len(data) * share)
    if not held_out:
        return data, None
    order = torch.randperm(len(data), generator=stream(seed, "split")).numpy()
    return data.subset(np.sort(order[held_out:])), data.subset(np.sort(order[:held_out]))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches alone are trained on; a set smaller than one is a single batch."""
    return max(1, images // batch_size)


def epoch_batches(
    data: Dataset, *, batch_size: int, augmentation: str, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each batch, on the CPU: augmented x ``[k, C, H, W]`` and y ``[k]``.

    The order is a new permutation in every epoch. A last batch that is not whole is left out, because the
    codec's size and batch-norm depend on the size of the batch.
    """
    order = torch.randperm(len(data), generator=stream(seed, "order", epoch))
    generator = stream(seed, "augmentation", epoch)
    augment = AUGMENTATIONS[augmentation]

    for step in range(steps_per_epoch(len(data), batch_size)):
        x, y = data.batch(order[step * batch_size : (step + 1) * batch_size])
        yield augment(x, generator), y
