"""From a Checkpoint to a Model, its normalisation inside; images settle what the file does not say."""

from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.checkpoint import Checkpoint
from robustbench_coded.models.normalisation import NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import recognise_network


def with_normalisation(
    checkpoint: Checkpoint, images: Tensor, labels: Tensor
) -> tuple[PixelModel, NormalisationChoice]:
    """The checkpoint as a Model from pixels to logits, and the normalisation it has inside.

    Args:
        checkpoint: as loaded; its network is shared with the Model.
        images: (n, channels, height, width) in [0, 1]; read only where the normalisation has to be guessed,
            and then the variant of the architecture is, too.
        labels: (n,) int64.
    Raises:
        InputError: the images or labels are not of the checkpoint's channels or classes, or they leave open
            which normalisation is right.
    """
    if checkpoint.normalisation is not None:
        known = checkpoint.normalisation
        choice = NormalisationChoice(known.name, known.mean, known.std, checkpoint.normalisation_source)
    else:
        _check_examples(checkpoint, images, labels)
        found = recognise_network(checkpoint, images, labels)
        if found.refusal:
            raise InputError(f"{checkpoint.path}: {found.refusal}")
        return found.model, found.choice
    model = PixelModel(
        checkpoint.network, choice.mean, choice.std, classes=checkpoint.classes, arch=checkpoint.arch
    )
    return model, choice


def _check_examples(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or images.shape[1] != checkpoint.channels:
        raise InputError(
            f"{checkpoint.path}: guessing its normalisation takes images of {checkpoint.channels} channels, "
            f"got {tuple(images.shape)}; pass --normalize"
        )
    if labels.min() < 0 or labels.max() >= checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: it answers {checkpoint.classes} classes, the labels go from "
            f"{int(labels.min())} to {int(labels.max())}; choose the data it was trained on with --data"
        )
