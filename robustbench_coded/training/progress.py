"""A progress bar with the time left and the figures of the last epoch."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustbench_coded.training.listener import EpochRow


class ProgressBar:
    """A ``Listener`` that draws on standard error."""

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
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._title = title
        self._task: TaskID | None = None

    def on_start(self, epochs: int, steps: int, first_epoch: int) -> None:
        self._epochs, self._steps = epochs, steps
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=(epochs - first_epoch) * steps, epoch=f"{first_epoch}/{epochs}", figures=""
        )

    def on_step(self, epoch: int, step: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=1, epoch=f"{epoch + 1}/{self._epochs}")

    def on_epoch(self, row: EpochRow) -> None:
        figures = f"loss {row.loss:.3f}"
        if row.validation_accuracy is not None:
            figures += f", validation {row.validation_accuracy:.1%}"
        if self._task is not None:
            self._progress.update(self._task, figures=figures)

    def on_end(self) -> None:
        self._progress.stop()
