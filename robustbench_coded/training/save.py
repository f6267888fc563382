"""Writes a trained network with what it is and how it was made."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

import robustbench_coded
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.models.normalisation import named
from robustbench_coded.models.saving import save_checkpoint
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.measure import Score
from robustbench_coded.training.recipes.coded import Coded
from robustbench_coded.training.stages import Stages


def save_trained(
    path: Path,
    stages: Stages,
    config: TrainConfig,
    data: Dataset,
    *,
    epoch: int,
    test: Score,
    defended: Score | None = None,
) -> None:
    """Writes ``stages`` after ``epoch`` epochs on ``data``, in a file that loads without options.

    ``test`` is of the network alone, as it will be loaded; ``defended`` behind the defence of its training.

    Everything in the file follows from the configuration, the data and the versions: no times, no places.
    """
    metadata = metadata_of(stages, config, data, epoch=epoch, test=test)
    if defended is not None:
        metadata["defended_accuracy"] = round(defended.accuracy, 6)
    save_checkpoint(path, stages.network, metadata)


def metadata_of(
    stages: Stages, config: TrainConfig, data: Dataset, *, epoch: int, test: Score
) -> dict[str, Any]:
    """What a checkpoint says of itself, as plain values."""
    mean, deviation = (tuple(values.flatten().tolist()) for values in (stages.mean, stages.deviation))
    mean, deviation = (tuple(round(value, 4) for value in values) for values in (mean, deviation))
    normalisation = named(mean, deviation)
    known = normalisation.name != "custom"
    described = {
        **config.described(),
        "classes": data.classes,
        "image_shape": list(data.image_shape),
        "normalisation": normalisation.name if known else {"mean": list(mean), "std": list(deviation)},
        "epoch": epoch,
        "fingerprint": config.fingerprint(),
        "accuracy": round(test.accuracy, 6),
        "loss": round(test.loss, 6),
        "versions": {
            "csrobust": robustbench_coded.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if isinstance(config.recipe, Coded):
        k = config.batch_size
        described["n_last"] = config.recipe.n_at(epoch - 1, config.total_epochs, k)
    return described
