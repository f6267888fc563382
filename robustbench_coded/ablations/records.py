"""The rows of the two CSV files from which an ablation goes on and its tables are made."""

from typing import NamedTuple


class Measurement(NamedTuple):
    """One accuracy of one run."""

    run: str  # digest of its configuration, seed included
    recipe: str
    seed: int
    inference: str
    attack: str
    k: int
    draws: int
    eps: float  # linf, pixel units; 0 for clean inputs
    examples: int
    accuracy: float | None  # None: the run diverged
    loss: float | None  # cross-entropy in nats, of standard inference on clean inputs

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that decides the figures."""
        return self[:1] + self[3:9]


class EpochRecord(NamedTuple):
    """One epoch of one run."""

    run: str
    recipe: str
    seed: int
    epoch: int  # from 1
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
