"""The batches of one epoch and the random numbers behind them: streams, validation split; records of
epochs, and lines on standard error that say how far a training is.
"""

import hashlib
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Literal, NamedTuple

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


class EpochRow(NamedTuple):
    """One finished epoch."""

    epoch: int  # from 1
    learning_rate: float  # of the last step
    loss: float  # mean of the training loss over the epoch
    validation_accuracy: float | None  # in [0, 1]; None where no images were held out
    validation_loss: float | None
    seconds: float

    @property
    def figures(self) -> str:
        """``loss 0.125, validation 87.5%``"""
        held_out = "" if self.validation_accuracy is None else f", validation {self.validation_accuracy:.1%}"
        return f"loss {self.loss:.3f}{held_out}"


QUIET = 60  # seconds that may go without a line


class Progress:
    """Writes the last epoch of every run to standard error, so a run of seconds is one line, and before it an
    epoch, or a step of a long one, whenever ``QUIET`` seconds have passed since the last line.

    Args:
        title: of the training.
        unit: what is counted.
        quiet: writes nothing.
    """

    def __init__(self, title: str, unit: str = "epoch", *, quiet: bool = False):
        self._title, self._unit, self._quiet = title, unit, quiet

    def start(self, epochs: int, steps: int) -> None:
        """The run has ``epochs`` of ``steps`` each."""
        self._epochs, self._steps = epochs, steps
        self._printed = self._began = monotonic()  # when the last line was written, and the epoch began

    def step(self, epoch: int, step: int) -> None:
        """A step is done; both count from 0."""
        # The last step is followed by its epoch's line, and so are those of epochs that are short.
        if step + 1 < self._steps and monotonic() - max(self._printed, self._began) >= QUIET:
            self._say(epoch + 1, f"step {step + 1}/{self._steps}")

    def done(self, epoch: int, figures: str) -> None:
        """An epoch is done, counted from 1, and its state is on the disk."""
        self._began = monotonic()
        if monotonic() - self._printed >= QUIET or epoch == self._epochs:
            self._say(epoch, figures)

    def _say(self, epoch: int, what: str) -> None:
        if not self._quiet:
            print(f"{self._title}: {self._unit} {epoch}/{self._epochs}, {what}", file=sys.stderr, flush=True)
        self._printed = monotonic()
