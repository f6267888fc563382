"""Normalisations without a name: what the first batch-norm sees is a closed form of them."""

import pytest
import torch
from torch import nn

from robustbench_coded.data.augment import images_of_kind
from robustbench_coded.models.build import build
from robustbench_coded.models.candidates import Assembly, Candidate, Fingerprints
from robustbench_coded.models.fingerprint import fingerprint
from robustbench_coded.models.first_layer import (
    FirstLayer,
    Patches,
    combinations,
    first_convolution,
    first_layer,
    other_normalisations,
)
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import PixelModel

CPU = torch.device("cpu")


def images(n, seed=0):
    """Smooth random images, as a network would tell channels apart."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(n, 3, 1, 1, generator=generator) * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)
    return colours * torch.rand(n, 3, 8, 8, generator=generator)


def remembering(path, mean, std, arch="digits-cnn", kind="plain"):
    """A file whose batch-norms have seen images of that kind behind a normalisation."""
    network = build(arch, 10, 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    x = images_of_kind(kind, images(256))
    network.train()((x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    torch.save(network.state_dict(), path)
    return Assembly(load_checkpoint(path), images(256), CPU)


def test_the_closed_form_is_what_the_batch_norm_measures(tmp_path):
    assembly = remembering(tmp_path / "a.pt", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    x = images(64)
    layer = first_layer(assembly, "digits-cnn", Patches(x))
    network = assembly.network("digits-cnn")
    for mean, std in (((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), ((0.0, 0.1, 0.9), (1.0, 0.5, 0.01))):
        model = PixelModel(network, mean, std, classes=10, arch="digits-cnn")
        measured = fingerprint(model, network, x, layers=1).divergences[0]
        numbers = torch.tensor([[mean, std]]).double()
        assert float(layer.divergence(numbers[:, 0], numbers[:, 1])) == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("arch", ["digits-cnn", "digits-cnn[input=bgr]"])
def test_patches_say_what_filters_see_of_them(tmp_path, monkeypatch, arch):
    assembly = remembering(tmp_path / "a.pt", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    x = images(16)
    patches = first_convolution(assembly, arch, Patches(x))
    monkeypatch.setattr("robustbench_coded.models.first_layer.first_convolution", lambda *_: None)
    filtered = first_layer(assembly, arch, Patches(x))
    torch.testing.assert_close(patches.firsts, filtered.firsts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches.seconds, filtered.seconds, rtol=1e-4, atol=1e-5)


def strided(**changed):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False, **changed), nn.BatchNorm2d(4))


def test_only_one_plain_convolution_is_answered_by_its_patches():
    class Other(Assembly):
        def __init__(self, network):
            super().__init__(None, None, CPU)
            self.network = lambda arch: network.eval()

    pooled = nn.Sequential(nn.MaxPool2d(2), *strided())
    networks = (strided(), strided(padding_mode="circular"), strided(dilation=2), pooled)
    for network in networks:
        for norm in network:
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.fill_(0.1)
    found = [first_convolution(Other(network), "a", Patches(images(4))) for network in networks]
    assert [one is None for one in found] == [False, True, True, True]
    seen = networks[0][0](images(4)).flatten(2)
    ones = torch.ones(1, 3).double()
    assert found[0].first[:, :3].sum(1).float().allclose(seen.mean((0, 2)), atol=1e-5)
    measured = fingerprint(networks[0], networks[0], images(4)).divergences[0]
    assert float(found[0].divergence(0 * ones, ones)) == pytest.approx(measured, rel=1e-3)


def test_known_numbers_are_combined_and_others_left_alone(tmp_path):
    combined = Normalisation("custom", (0.485, 0.456, 0.406), (0.25, 0.25, 0.25))
    assert combined in combinations(3)
    assembly = remembering(tmp_path / "a.pt", combined.mean, combined.std)
    assert other_normalisations(assembly, "digits-cnn", ["plain"], 0.01) == [(combined, "plain")]
    assert other_normalisations(assembly, "digits-cnn", ["plain"], 0.0) == []
    assembly = remembering(tmp_path / "b.pt", (0.2, 0.7, 0.45), (0.11, 0.6, 0.3))
    assert other_normalisations(assembly, "digits-cnn", ["plain"], 0.01) == []


def test_what_is_no_sum_over_the_channels_is_left_alone(tmp_path):
    path = tmp_path / "a.pt"
    remembering(path, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    arch = "digits-cnn[input=per-image]"
    assembly = Assembly(load_checkpoint(path, arch=arch), images(32), CPU)
    assert first_layer(assembly, arch, Patches(images(32))) is None
    assert isinstance(first_layer(assembly, "digits-cnn", Patches(images(32))), FirstLayer)


def test_first_layers_follow_from_what_all_of_them_saw(tmp_path):
    assembly = remembering(tmp_path / "a.pt", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    end = Candidate("digits-cnn", Normalisation("none", (0.0,) * 3, (1.0,) * 3)), "plain"
    few = Fingerprints(assembly).fingerprint(*end, 32, 2)
    remembered = Fingerprints(assembly)
    remembered.fingerprint(*end, 64)
    assembly.fingerprint = None  # nothing is sent through a network again
    found = remembered.fingerprint(*end, 32, 2)
    assert found.layers == few.layers and found.images == 32
    assert found.divergences == pytest.approx(few.divergences, rel=1e-9)
    assert found.without == pytest.approx(few.without, rel=1e-9)


def test_a_batch_norm_behind_a_linear_layer_is_answered_by_responses(tmp_path):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 6, bias=False), nn.BatchNorm1d(6)).eval()
    layers[2].running_mean.fill_(0.1)

    class Other(Assembly):
        def network(self, arch):
            return layers

    x = images(4)
    ones = torch.ones(1, 3).double()
    found = first_layer(Other(None, None, CPU), "a", Patches(x))
    measured = fingerprint(layers, layers, x).divergences[0]
    assert float(found.divergence(0 * ones, ones)) == pytest.approx(measured, rel=1e-3)
