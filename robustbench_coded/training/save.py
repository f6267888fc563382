"""Scores a trained network, writes it with what it is and how it was made, and finds one that is already
there.
"""

import platform
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import robustbench_coded
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.metadata import save_checkpoint
from robustbench_coded.models.normalisation import named
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.recipes import Coded
from robustbench_coded.training.stages import Stages

_BATCH = 500


class Score(NamedTuple):
    accuracy: float  # in [0, 1]
    loss: float  # mean cross-entropy, nats


@torch.no_grad()
def measure(network: nn.Module, data: Dataset, device: torch.device) -> Score:
    """Scores ``network`` in evaluation mode on all of ``data``, and leaves it in the mode it was in."""
    was_training = network.training
    network.eval()
    right, loss = 0, 0.0
    for start in range(0, len(data), _BATCH):
        x, y = (t.to(device) for t in data.batch(range(start, min(start + _BATCH, len(data)))))
        logits = network(x).float()
        right += int((logits.argmax(1) == y).sum())
        loss += float(cross_entropy(logits, y, reduction="sum"))
    network.train(was_training)
    return Score(right / len(data), loss / len(data))


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
