"""The project's own networks for digits, with their normalisation."""

from robustbench_coded.data.digits import load_digits
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.with_normalisation import with_normalisation

EXAMPLES = 256  # of the test data, the first; the networks are a hundred times as slow as a linear model


def digits_network(name: str) -> PixelModel:
    """A shipped network for digits, by its name.

    Raises:
        InputError: it is not there.
    """
    x, y = load_digits("test").batch(range(EXAMPLES))
    return with_normalisation(load_checkpoint(name), x, y)[0]
