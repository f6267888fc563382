"""Weights in parts (weight norm, spectral norm, masks) load as the plain ones that torch makes of them."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from robustbench_coded.errors import InputError
from robustbench_coded.models.build import build
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.state_dict import folded


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.4)


WRAPS = {
    "weight norm, old": (nn.utils.weight_norm, "weight norm"),
    "weight norm of the whole, old": (lambda layer: nn.utils.weight_norm(layer, dim=None), "weight norm"),
    "weight norm": (parametrizations.weight_norm, "weight norm"),
    "weight norm over outputs": (lambda layer: parametrizations.weight_norm(layer, dim=1), "weight norm"),
    "weight norm of the whole": (lambda layer: parametrizations.weight_norm(layer, dim=None), "weight norm"),
    "spectral norm, old": (nn.utils.spectral_norm, "spectral norm"),
    "spectral norm": (parametrizations.spectral_norm, "spectral norm"),
    "pruned": (pruned, "a mask of pruning"),
}


def wrapped(wrap):
    """A network whose convolutions and last layer are wrapped, after two steps of training."""
    torch.manual_seed(3)
    network = build("digits-cnn", 10, 3, generator=torch.Generator().manual_seed(5))
    for layer in [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]:
        wrap(layer)
    for _ in range(2):
        network.zero_grad()
        network.train()(torch.rand(8, 3, 8, 8)).logsumexp(1).sum().backward()
        with torch.no_grad():
            for one in network.parameters():
                one -= 0.1 * one.grad
    return network.eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", WRAPS)
def test_parts_load_as_the_weights_that_torch_makes_of_them(kind, tmp_path):
    wrap, said = WRAPS[kind]
    network = wrapped(wrap)
    torch.save({"state_dict": {f"module.{n}": t for n, t in network.state_dict().items()}}, tmp_path / "m.pt")
    checkpoint = load_checkpoint(tmp_path / "m.pt")
    assert checkpoint.arch == "digits-cnn"
    assert f"{said} is folded into 4 weights" in checkpoint.notes
    x = torch.rand(16, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.network(x), network(x), atol=1e-5, rtol=1e-5)


def test_a_transposed_convolution_is_normed_over_its_outputs():
    torch.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.ConvTranspose2d(4, 6, 3)).eval()
    tensors, _ = folded(layer.state_dict())
    torch.testing.assert_close(tensors["weight"], layer.weight)


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


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parts_that_make_no_weight_are_refused_in_one_line(tmp_path):
    network = wrapped(nn.utils.weight_norm)
    damaged = {
        n: torch.zeros_like(t) if n == "linear.weight_v" else t for n, t in network.state_dict().items()
    }
    torch.save(damaged, tmp_path / "zero.pt")
    with pytest.raises(InputError, match=r"zero.pt: weight norm of linear.weight is of a weight that is 0"):
        load_checkpoint(tmp_path / "zero.pt")
    parts = {"linear.weight": "linear.parametrizations.weight.original"}
    orthogonal = build("digits-cnn", 10, 3).state_dict()
    torch.save({parts.get(name, name): t for name, t in orthogonal.items()}, tmp_path / "orthogonal.pt")
    with pytest.raises(InputError, match=r"kept in parts \(linear.parametrizations.*remove_parametrizations"):
        load_checkpoint(tmp_path / "orthogonal.pt", arch="digits-cnn")
