"""Records of epochs, and lines on standard error that say how far a training is."""

import sys
from time import monotonic
from typing import NamedTuple


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
