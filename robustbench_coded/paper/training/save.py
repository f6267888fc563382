"""Scores a trained network, writes it with what it is and how it was made, and finds one that is already
there; and what a training starts from: the state of a killed run, or the weights of a checkpoint.
"""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import robustbench_coded
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import KEY
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.models.normalisation import named
from robustbench_coded.paper.training import listener, recipes
from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.paper.training.stages import TrainingStages
from robustbench_coded.runs.atomic import write_bytes

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


def save_checkpoint(path: str | Path, network: nn.Module, metadata: dict[str, Any]) -> None:
    """Saves the weights of ``network`` beside ``metadata``.

    Args:
        path: a file ending in ``.safetensors``; one that is there is replaced in one step.
        network: as built by ``fresh.build``; saved from whatever device it is on.
        metadata: plain data; ``arch``, ``classes``, ``image_shape`` ([channels, height, width]) and
            ``normalisation`` (``{"mean": [...], "std": [...]}`` or a known name) are what loading reads.
    Raises:
        ValueError: weights that are NaN or infinite, or metadata that are not JSON.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"expected finite weights, got NaN or infinite ones in {name}")
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"expected metadata fit for JSON, got {error}") from None
    write_bytes(Path(path), safetensors.torch.save(tensors, {KEY: text}))


def save_trained(
    path: Path,
    stages: TrainingStages,
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
    mean, std = (
        tuple(round(value, 4) for value in values.flatten().tolist())
        for values in (stages.mean, stages.deviation)
    )
    normalisation = named(mean, std)
    known = normalisation.name != "custom"
    metadata = {
        **config.described(),
        "classes": data.classes,
        "image_shape": list(data.image_shape),
        "normalisation": normalisation.name if known else {"mean": list(mean), "std": list(std)},
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
    if isinstance(config.recipe, recipes.CodedRecipe):
        k = config.batch_size
        metadata["n_last"] = config.recipe.n_at(epoch - 1, config.total_epochs, k)
    if defended is not None:
        metadata["defended_accuracy"] = round(defended.accuracy, 6)
    save_checkpoint(path, stages.network, metadata)


def finished_score(path: Path, config: TrainConfig) -> Score | None:
    """The score that a checkpoint made with exactly this configuration states; None where there is none."""
    if not path.is_file():
        return None
    try:
        metadata = load_checkpoint(path).metadata
    except InputError:  # a file of another kind
        return None
    made_so = metadata.get("fingerprint") == config.fingerprint()
    return Score(metadata["accuracy"], metadata["loss"]) if made_so else None


Weights = dict[str, Tensor]


@dataclass
class RunState:
    """Everything a run needs besides its configuration; random numbers come from the epoch.

    Attributes:
        epoch: epochs done.
        weights: of the network.
        optimizer: its ``state_dict``.
        best: weights at the best validation accuracy so far; None where no images were held out.
        history: one row for each epoch done, each a tuple as it is stored.
    """

    epoch: int = 0
    weights: Weights = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: Weights | None = None
    history: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def rows(self) -> tuple[listener.EpochRow, ...]:
        """The history."""
        return tuple(listener.EpochRow(*row) for row in self.history)

    @property
    def best_epoch(self) -> int | None:
        """The last of the epochs with the best validation accuracy, from 1; None without validation images.

        The last, because of equals it is trained longest and, in coded training, with most coded inputs.
        """
        scored = [
            (row.validation_accuracy, row.epoch) for row in self.rows if row.validation_accuracy is not None
        ]
        return max(scored)[1] if scored else None


def state_path(checkpoint: Path) -> Path:
    """Where the state lies while ``checkpoint`` is in the making."""
    return checkpoint.with_name(f"{checkpoint.stem}.state.pt")


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
    check_data(checkpoint, data.image_shape, data.classes, config.data)
    if (known := checkpoint.normalisation) is not None:
        apart = max(abs(a - b) for a, b in zip((*known.mean, *known.std), (*mean, *deviation), strict=True))
        if apart > SAME:
            raise InputError(
                f"start {config.start}: its normalisation is {known}, the training images have mean "
                f"{mean} and deviation {deviation}; start from a checkpoint that was trained on them"
            )
    return checkpoint.network.state_dict()
