"""What a training run reports as it goes: to a terminal or a log."""

from time import monotonic
from typing import NamedTuple, Protocol

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


class TrainingListener(Protocol):
    """Is told of every step and every epoch."""

    def on_start(self, epochs: int, steps: int, first_epoch: int) -> None:
        """The run has ``epochs`` of ``steps`` each and starts at ``first_epoch`` (0 unless it goes on)."""

    def on_step(self, epoch: int, step: int) -> None:
        """A step is done; both count from 0."""

    def on_epoch(self, row: EpochRow) -> None:
        """An epoch is done and its state is on the disk."""

    def on_end(self) -> None:
        """The run is over, or was interrupted."""


QUIET = 60  # seconds that a log may go without a line


class ProgressBar:
    """A ``TrainingListener`` that writes to standard error.

    A log gets the last epoch of every run, so a run of seconds is one line, and before it an epoch, or a step
    of a long one, whenever ``QUIET`` seconds have passed since the last line.
    """

    def __init__(self, title: str):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._console = Console(stderr=True)
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._title = title
        self._task: TaskID | None = None
        self._said = self._began = 0.0  # when the last line was printed, and the epoch began

    def on_start(self, epochs: int, steps: int, first_epoch: int) -> None:
        self._epochs, self._steps = epochs, steps
        self._said = self._began = monotonic()
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=(epochs - first_epoch) * steps, epoch=f"{first_epoch}/{epochs}", figures=""
        )

    def on_step(self, epoch: int, step: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=1, epoch=f"{epoch + 1}/{self._epochs}")
        # The last step is followed by its epoch's line, and so are those of epochs that are short.
        if step + 1 < self._steps and self._silent_since(max(self._said, self._began)):
            self._say(f"epoch {epoch + 1}/{self._epochs}, step {step + 1}/{self._steps}")

    def on_epoch(self, row: EpochRow) -> None:
        figures = f"loss {row.loss:.3f}"
        if row.validation_accuracy is not None:
            figures += f", validation {row.validation_accuracy:.1%}"
        if self._task is not None:
            self._progress.update(self._task, figures=figures)
        self._began = monotonic()
        if self._silent_since(self._said) or (row.epoch == self._epochs and not self._console.is_terminal):
            self._say(f"epoch {row.epoch}/{self._epochs}, {figures}, {row.seconds:.1f} s an epoch")

    def _silent_since(self, moment: float) -> bool:
        return not self._console.is_terminal and monotonic() - moment >= QUIET

    def _say(self, line: str) -> None:
        self._console.print(f"{self._title}: {line}", markup=False, highlight=False, soft_wrap=True)
        self._said = monotonic()

    def on_end(self) -> None:
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()
