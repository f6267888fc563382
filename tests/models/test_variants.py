"""Variants: equal weights, other functions, and a name that says which."""

import copy
import pickle

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.layers import ACTIVATIONS, activation_named
from robustbench_coded.models.architectures.resnet_cifar import (
    NEW_CHANNELS,
    SUBSAMPLINGS,
    subsampled,
    widened,
)
from robustbench_coded.models.build import construct
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import OtherInput, standardised
from robustbench_coded.models.prepare import fold_batch_norms
from robustbench_coded.models.registry import BESIDE_RELU, changed, find, split_variant
from robustbench_coded.paper.training.fresh import build

SMALL = ("digits-cnn", "resnet20", "preact-resnet18", "resnet18", "wrn-10-1", "vit-4-24-2-3")


def images(size=16):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def settled(arch, like=None):
    """A network whose batch-norms are not the identity; with the weights of ``like``."""
    if like is not None:
        network = construct(arch, 10, 3, 16).eval()
        network.load_state_dict(like.state_dict(), assign=True)
        return network
    network = build(arch, 10, 3, 16).eval()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.05, 0.2, generator=generator)  # beyond where relu6 is relu
    return network


@torch.no_grad()
@pytest.mark.parametrize("arch", SMALL)
def test_every_variant_has_the_weights_of_its_architecture_and_another_function(arch):
    network = settled(arch)
    answers = [network(images())]
    variants = [(part, form) for part, forms in find(arch)[0].variants.items() for form in forms]
    for part, variant in ((part, changed(arch, part, form)) for part, form in variants):
        if part == "heads" and (24 % int(variant.rpartition("=")[2][:-1]) or variant.endswith("=3]")):
            continue  # no such network, or the very one
        answer = settled(variant, like=network)(images())
        if answer.isfinite().all():  # squares may overflow
            difference = min(float((answer - other).abs().max()) for other in answers)
            assert difference > 1e-5 * float(answer.abs().max()), variant
            answers.append(answer)
    assert len(answers) >= 7


def test_names_of_activations_are_those_of_the_functions():
    assert set(BESIDE_RELU) == set(ACTIVATIONS) - {"relu"}
    assert float(activation_named("leaky-relu-0.15")(torch.tensor(-2.0))) == pytest.approx(-0.3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_sent_and_traced(name):
    network = settled(f"digits-cnn[activation={name}]" if name != "relu" else "digits-cnn")
    assert torch.equal(pickle.loads(pickle.dumps(network))(images()), network(images()))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 3
    torch.testing.assert_close(folded(images()), network(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("resnet20[", r"expected NAME\[part=form,part=form\]"),
        ("resnet20[activation]", "expected NAME"),
        ("resnet20[activation=silu,activation=relu]", "expected NAME"),
        ("resnet20[activation=silu]x", "expected NAME"),
        ("resnet20[input=raw]", "expected input=per-image or input=bgr"),
        ("resnet20[shortcut=raw]", "has no part 'shortcut' to choose; it has activation, subsampling"),
        ("resnet20[activation=swash]", "expected an activation of relu, leaky-relu, .* got swash"),
        ("resnet20[new_channels=above]", "expected new_channels of both, behind, got above"),
        ("resnet20[residual=none]", "has no part 'residual' to choose; it has activation, subsampling"),
        ("preact-resnet18[shortcut=maybe]", "expected shortcut of active, raw, got maybe"),
        ("vit-4-24-2-3[heads=5]", "a dim that is a multiple of the heads"),
    ],
)
def test_what_is_no_variant_is_refused(arch, message):
    with pytest.raises(InputError, match=message):
        build(arch, 10, 3, 16)


def test_a_variant_is_named_by_what_is_not_as_usual():
    assert changed("resnet20", "activation", "silu") == "resnet20[activation=silu]"
    both = changed("resnet20[activation=silu]", "new_channels", "behind")
    assert split_variant(both) == ("resnet20", {"activation": "silu", "new_channels": "behind"})
    assert changed(both, "activation", "gelu") == "resnet20[activation=gelu,new_channels=behind]"


@pytest.mark.parametrize("how", SUBSAMPLINGS)
@pytest.mark.parametrize("side", [8, 7])
def test_a_shortcut_fits_what_a_convolution_leaves(how, side):
    x = torch.arange(2.0 * side * side).view(1, 2, side, side)
    assert subsampled(x, 2, how).shape == F.conv2d(x, torch.ones(2, 2, 3, 3), stride=2, padding=1).shape


def test_subsampling_in_closed_form():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = {
        "stride": [0, 2, 8, 10],
        "mean": [2.5, 4.5, 10.5, 12.5],
    }
    for how, values in expected.items():
        torch.testing.assert_close(subsampled(x, 2, how).flatten(), torch.tensor(values).float(), msg=how)


def test_new_channels_in_closed_form():
    x = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    expected = {"both": [0, 1, 2, 0], "behind": [1, 2, 0, 0]}
    assert set(expected) == set(NEW_CHANNELS)
    for where, values in expected.items():
        assert widened(x, 2, where).flatten().tolist() == values, where


def test_per_image_normalisation_in_closed_form():
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    deviation = (4 * 0.25 / 3) ** 0.5
    torch.testing.assert_close(standardised(x), (x - 0.5) / deviation)
    flat = torch.tensor([0.5, 0.5, 0.5, 0.5]).view(1, 1, 2, 2)
    assert standardised(flat).eq(0).all()
    faint = 0.5 + (x - 0.5) / 100
    torch.testing.assert_close(standardised(faint), (x - 0.5) / 100 / 0.5)  # not below 1 / sqrt(4)


def test_a_variant_is_an_arch_like_any_other(tmp_path):
    network = settled("digits-cnn")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors")
    arch = "digits-cnn[activation=silu,input=per-image]"
    checkpoint = load_checkpoint(tmp_path / "a.safetensors", arch=arch)
    assert checkpoint.arch == arch
    assert isinstance(checkpoint.network, OtherInput)
    expected = settled("digits-cnn[activation=silu]", like=network)(standardised(images()))
    assert torch.equal(checkpoint.network(images()), expected)
    assert len(checkpoint.network.blocks()) == 3
