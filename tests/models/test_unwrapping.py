"""Networks under their authors' names, which do not say what stands between the layers."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint


@pytest.mark.parametrize(
    "layers",
    [
        {"conv1": nn.Conv2d(1, 6, 5), "conv2": nn.Conv2d(6, 16, 5), "fc1": nn.Linear(256, 10)},
        {"fc1": nn.Linear(784, 30), "fc2": nn.Linear(30, 10)},
    ],
)
def test_names_that_do_not_say_what_stands_between_layers_are_refused(tmp_path, layers):
    """Activations and pooling would be guesses."""
    torch.save(nn.ModuleDict(layers).state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"no known architecture .*pass .*--arch package\.module:function"):
        load_checkpoint(tmp_path / "a.pt")
