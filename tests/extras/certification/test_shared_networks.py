"""A network with certified training by others, on MNIST; skipped where it is not beside the checkout."""

from pathlib import Path

import pytest

from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.extras.certification.bounds import Region, least_margins
from robustbench_coded.extras.certification.graph import graph_of
from robustbench_coded.models.loading import load_checkpoint
from tests.extras.certification.conftest import lowest_lead

SHARED = Path(__file__).parents[4] / "shared"
pytestmark = pytest.mark.skipif(not (SHARED / "checkpoints").is_dir(), reason="needs ../shared/checkpoints")


@pytest.mark.long
def test_certified_training_on_mnist():
    """Wong and Kolter's network at the eps it was trained for: 95% certified, and PGD leaves little more."""
    loaded = load_checkpoint(SHARED / "checkpoints" / "kw_mnist.pth", normalize="none")
    x, y = load_data("mnist", data_dir=str(SHARED / "data" / "mnist")).batch(range(16))
    model = with_normalisation(loaded, x, y)
    eps = 0.1
    found = least_margins(graph_of(model, x), Region.around(x, "linf", eps), y).amin(1)
    assert (found > 0).float().mean() > 0.85
    assert (found <= lowest_lead(model, x, y, "linf", eps, steps=20).double() + 1e-9).all()
