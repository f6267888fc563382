"""TensorBoard logs of a training run."""

from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.training.listener import EpochRow


def summary_writer(folder: Path) -> Any:
    """torch's ``SummaryWriter`` of ``folder``.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "TensorBoard logs need the package tensorboard: pip install 'csrobust[train]'"
        ) from error
    return SummaryWriter(folder)


class TensorBoardLog:
    """A ``Listener`` that writes loss, learning rate and validation figures by epoch into ``folder``.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path):
        self._writer = summary_writer(folder)

    def on_start(self, epochs: int, steps: int, first_epoch: int) -> None:
        pass

    def on_step(self, epoch: int, step: int) -> None:
        pass

    def on_epoch(self, row: EpochRow) -> None:
        self._writer.add_scalar("loss/train", row.loss, row.epoch)
        self._writer.add_scalar("learning_rate", row.learning_rate, row.epoch)
        if row.validation_accuracy is not None:
            self._writer.add_scalar("accuracy/validation", row.validation_accuracy, row.epoch)
            self._writer.add_scalar("loss/validation", row.validation_loss, row.epoch)
        self._writer.flush()

    def on_end(self) -> None:
        self._writer.close()
