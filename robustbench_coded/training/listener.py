"""What a training run reports as it goes."""

from typing import NamedTuple, Protocol


class EpochRow(NamedTuple):
    """One finished epoch."""

    epoch: int  # from 1
    learning_rate: float  # of the last step
    loss: float  # mean of the training loss over the epoch
    validation_accuracy: float | None  # in [0, 1]; None where no images were held out
    validation_loss: float | None
    seconds: float


class Listener(Protocol):
    """Is told of every step and every epoch, in the first process alone."""

    def on_start(self, epochs: int, steps: int, first_epoch: int) -> None:
        """The run has ``epochs`` of ``steps`` each and starts at ``first_epoch`` (0 unless it goes on)."""

    def on_step(self, epoch: int, step: int) -> None:
        """A step is done; both count from 0."""

    def on_epoch(self, row: EpochRow) -> None:
        """An epoch is done and its state is on the disk."""

    def on_end(self) -> None:
        """The run is over, or was interrupted."""
