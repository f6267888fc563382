"""Weights in parts (weight norm, spectral norm, masks) are refused, but for the user's own network."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from robustbench_coded.errors import InputError
from robustbench_coded.models.build import build
from robustbench_coded.models.loading import load_checkpoint

WRAPS = {
    "weight norm, old": nn.utils.weight_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm, old": nn.utils.spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("arch", [None, "digits-cnn"])
def test_parts_are_refused_with_the_calls_that_make_plain_weights_of_them(kind, arch, tmp_path):
    network = build("digits-cnn", 10, 3)
    for layer in [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]:
        WRAPS[kind](layer)
    torch.save({"state_dict": {f"module.{n}": t for n, t in network.state_dict().items()}}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"in parts \(conv1\..*remove_parametrizations.*--arch") as error:
        load_checkpoint(tmp_path / "m.pt", arch=arch)
    assert "\n" not in str(error.value)


def test_a_network_of_the_users_that_has_the_parts_itself_is_given_them(tmp_path, monkeypatch):
    (tmp_path / "normed.py").write_text(
        "from torch import nn\n"
        "def net(classes=10):\n"
        "    layer = nn.utils.parametrizations.weight_norm(nn.Linear(192, classes))\n"
        "    return nn.Sequential(nn.Flatten(), layer)\n"
    )
    monkeypatch.chdir(tmp_path)
    layer = parametrizations.weight_norm(nn.Linear(192, 10))
    network = nn.Sequential(nn.Flatten(), layer)
    torch.save(network.state_dict(), tmp_path / "m.pt")
    found = load_checkpoint(tmp_path / "m.pt", arch="normed:net").network
    assert torch.equal(found[1].parametrizations.weight.original1, layer.parametrizations.weight.original1)
