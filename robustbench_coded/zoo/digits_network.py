"""The project's own networks for digits, with their normalisation."""

from pathlib import Path

from robustbench_coded.data.digits import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint, with_normalisation
from robustbench_coded.models.pixel_model import PixelModel

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
EXAMPLES = 256  # of the test data, the first; the networks are a hundred times as slow as a linear model


def digits_network(name: str) -> PixelModel:
    """The network of ``checkpoints/NAME.safetensors``.

    Raises:
        InputError: it is not there.
    """
    path = CHECKPOINTS / f"{name}.safetensors"
    if not path.exists():
        raise InputError(f"{path} is missing; python -m robustbench_coded.training.make_checkpoints makes it")
    x, y = load_digits("test").batch(range(EXAMPLES))
    return with_normalisation(load_checkpoint(path), x, y)[0]
