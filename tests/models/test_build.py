"""Building networks: named without torch, initialised from one generator."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.detect import construct
from robustbench_coded.models.registry import MODELS
from robustbench_coded.paper.training.fresh import build


def test_names_and_normalisations_are_readable_without_torch():
    code = (
        "import sys; from robustbench_coded.models import normalisation, registry; "
        "assert len(registry.MODELS) > 10 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arch", MODELS)
def test_every_listed_name_can_be_constructed(arch):
    network = construct(arch, 10, 3)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert MODELS[arch].description


@pytest.mark.parametrize("arch", ["digits-cnn", "resnet20"])
def test_weights_follow_the_generator_and_leave_the_global_one_alone(arch):
    before = torch.get_rng_state()
    first, again, other = (
        build(arch, 10, 3, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    learned = [name for name in first if first[name].ndim > 1]
    assert learned
    assert not any(torch.equal(first[name], other[name]) for name in learned)
    assert all(tensor.isfinite().all() for tensor in first.values())


def test_convolutions_start_with_the_variance_of_he_et_al():
    network = build("resnet18", 10, 3)
    weight = network.layer4[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert torch.equal(network.bn1.weight, torch.ones(64))


def test_dropout_is_refused_where_it_has_no_place():
    with pytest.raises(InputError, match="dropout has no place in this architecture"):
        build("torchvision-resnet18", 10, 3, dropout=0.1)


def test_a_convolution_with_a_bias_is_another_network(reloaded):
    network = build("resnet20", 10, 3)
    network.conv1.bias = nn.Parameter(torch.ones(16))
    with pytest.raises(InputError, match=r"nearest is resnet20, where conv1.bias has no place"):
        reloaded(network.state_dict())
