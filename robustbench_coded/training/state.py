"""What a training starts from: the state of a killed run, or the weights of a checkpoint."""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.listener import EpochRow

Weights = dict[str, Tensor]


@dataclass
class RunState:
    """Everything a run needs besides its configuration; random numbers come from the epoch.

    Attributes:
        fingerprint: of the configuration.
        epoch: epochs done.
        weights: of the network.
        optimizer: its ``state_dict``.
        best: weights at the best validation accuracy so far; None where no images were held out.
        history: one row for each epoch done.
    """

    fingerprint: str
    epoch: int
    weights: Weights
    optimizer: dict[str, Any]
    best: Weights | None = None
    history: list[EpochRow] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The last of the epochs with the best validation accuracy, from 1; None without validation images.

        The last, because of equals it is trained longest and, in coded training, with most coded inputs.
        """
        scored = [
            (row.validation_accuracy, row.epoch)
            for row in self.history
            if row.validation_accuracy is not None
        ]
        return max(scored)[1] if scored else None


def state_path(checkpoint: Path) -> Path:
    """Where the state lies while ``checkpoint`` is in the making."""
    return checkpoint.with_name(f"{checkpoint.stem}.state.pt")


def save_state(path: Path, state: RunState) -> None:
    """Writes the state, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({**vars(state), "history": [tuple(row) for row in state.history]}, buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path, fingerprint: str) -> RunState | None:
    """The state of an unfinished run with this configuration; None where there is no file.

    Raises:
        InputError: the file is of another configuration, or damaged.
    """
    if not path.is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        state = RunState(**{**values, "history": [EpochRow(*row) for row in values["history"]]})
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path}: damaged state of an unfinished run; remove it to start again") from error
    if state.fingerprint != fingerprint:
        raise InputError(
            f"{path}: an unfinished run with other options; finish it with those, or remove it to start again"
        )
    return state


SAME = 5e-3  # normalisations are rounded where they are stored


def weights_to_start_from(
    config: TrainConfig, data: Dataset, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Weights:
    """The weights of ``config.start``, for a network that is given (pixel - mean) / deviation.

    Args:
        config: names the checkpoint and the architecture.
        data: the training images.
        mean, deviation: of each channel, in units of pixels in [0, 1].
    Raises:
        InputError: a checkpoint of another architecture, other classes or another normalisation.
    """
    checkpoint = load_checkpoint(str(config.start))
    if checkpoint.arch != config.arch:
        raise InputError(
            f"start {config.start}: it is a {checkpoint.arch}, the training has arch {config.arch}"
        )
    if (checkpoint.classes, checkpoint.channels) != (data.classes, data.image_shape[0]):
        raise InputError(
            f"start {config.start}: it has {checkpoint.classes} classes and {checkpoint.channels} channels, "
            f"{config.data} has {data.classes} and {data.image_shape[0]}"
        )
    if (known := checkpoint.normalisation) is not None:
        apart = max(abs(a - b) for a, b in zip((*known.mean, *known.std), (*mean, *deviation), strict=True))
        if apart > SAME:
            raise InputError(
                f"start {config.start}: its normalisation is {known}, the training images have mean "
                f"{_rounded(mean)} and standard deviation {_rounded(deviation)}; start from a checkpoint "
                "that was trained on them"
            )
    return checkpoint.network.state_dict()


def _rounded(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.4f}" for value in values)
