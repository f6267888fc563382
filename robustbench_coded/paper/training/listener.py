"""Records of epochs, and progress of a training at a terminal or in a log."""

from time import monotonic
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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


QUIET = 60  # seconds that a log may go without a line


class ProgressBar:
    """Writes to standard error.

    A log gets the last epoch of every run, so a run of seconds is one line, and before it an epoch, or a step
    of a long one, whenever ``QUIET`` seconds have passed since the last line.

    Args:
        title: of the training.
        unit: what is counted.
        quiet: writes nothing.
    """

    def __init__(self, title: str, unit: str = "epoch", *, quiet: bool = False):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[at]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            *columns, console=self._console, disable=quiet or not self._console.is_terminal
        )
        self._title, self._unit = title, unit
        self._task: TaskID | None = None
        self._printed = self._began = 0.0  # when the last line was printed, and the epoch began

    def start(self, epochs: int, steps: int, first_epoch: int) -> None:
        """The run has ``epochs`` of ``steps`` each and starts at ``first_epoch`` (0 unless it goes on)."""
        self._epochs, self._steps = epochs, steps
        self._printed = self._began = monotonic()
        self._progress.start()
        total = (epochs - first_epoch) * steps
        self._task = self._progress.add_task(self._title, total=total, at=self._at(first_epoch), figures="")

    def step(self, epoch: int, step: int) -> None:
        """A step is done; both count from 0."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, at=self._at(epoch + 1))
        # The last step is followed by its epoch's line, and so are those of epochs that are short.
        if step + 1 < self._steps and self._silent_since(max(self._printed, self._began)):
            self._say(f"{self._at(epoch + 1)}, step {step + 1}/{self._steps}")

    def done(self, epoch: int, figures: str) -> None:
        """An epoch is done, counted from 1, and its state is on the disk."""
        if self._task is not None:
            self._progress.update(self._task, figures=figures)
        self._began = monotonic()
        if self._silent_since(self._printed) or (epoch == self._epochs and not self._console.is_terminal):
            self._say(f"{self._at(epoch)}, {figures}")

    def stop(self) -> None:
        """The run is over, or was interrupted."""
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()

    def _at(self, epoch: int) -> str:
        return f"{self._unit} {epoch}/{self._epochs}"

    def _silent_since(self, moment: float) -> bool:
        return not self._console.is_terminal and monotonic() - moment >= QUIET

    def _say(self, line: str) -> None:
        self._console.print(f"{self._title}: {line}", markup=False, highlight=False, soft_wrap=True)
        self._printed = monotonic()
