"""Checkpoints that a training finds already there."""

from __future__ import annotations

from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.measure import Score


def finished_score(path: Path, config: TrainConfig) -> Score | None:
    """The score that a checkpoint made with exactly this configuration states; None where there is none."""
    if not path.is_file():
        return None
    metadata = load_checkpoint(path).metadata
    if metadata.get("fingerprint") != config.fingerprint():
        return None
    return Score(metadata["accuracy"], metadata["loss"])


def score_if_done(path: Path, config: TrainConfig) -> Score | None:
    """`finished_score`, for a training that is about to write ``path``: nothing else may lie there.

    Hours of work in a checkpoint are not to be lost to a name that was used twice.

    Raises:
        InputError: ``path`` is a file that was made otherwise.
    """
    if not path.exists():
        return None
    try:
        score = finished_score(path, config)
    except (InputError, KeyError):
        score = None
    if score is None:
        raise InputError(
            f"--out: {path} is there already and was made with other settings; "
            "give another name, or remove the file"
        )
    return score
