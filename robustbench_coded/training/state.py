"""The file from which a killed run goes on."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_bytes
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
