"""The weights that a training starts from, where it does not start from random ones."""

from __future__ import annotations

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.state import Weights

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
