"""Every architecture: sizes as published, blocks that compose to it, parity with an independent forward."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import resnet18, resnet50

from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.layers import seed_dropout
from robustbench_coded.models.detect import shapes_of
from robustbench_coded.paper.training.fresh import build

# Parameters for 10 classes and 3 channels: 0.27, 0.46, 0.66 and 0.85 million in He et al.'s Table 6, 36.5
# million in Zagoruyko & Komodakis' Table 4, the others counted in the implementations of these names.
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "preact-resnet18": 11_171_146,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "wrn-28-10": 36_479_194,
    "torchvision-resnet50": 23_528_522,
}

SMALL = ["digits-cnn", "resnet20", "preact-resnet18-bn", "resnet18", "wrn-10-1"]
BLOCKS = {
    "digits-cnn": 3,
    "resnet20": 4,
    "preact-resnet18-bn": 5,
    "resnet18": 5,
    "wrn-10-1": 4,
    "dm-wrn-10-1": 4,
    "dm-preact-resnet18": 5,
}


def network_of(arch: str, classes: int = 10, channels: int = 3) -> nn.Module:
    """A network whose batch-norms have seen data, so that none of them is near the identity."""
    generator = torch.Generator().manual_seed(0)
    network = build(arch, classes, channels, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_(0, 0.3, generator=generator)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def images(count: int = 3, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", PARAMETERS)
def test_number_of_parameters_is_the_published_one(arch):
    shapes = shapes_of(arch, 10, 3)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    learned = [torch.Size(shape).numel() for name, shape in shapes.items() if not name.endswith(buffers)]
    assert sum(learned) == PARAMETERS[arch]


@pytest.mark.parametrize("arch", BLOCKS)
def test_blocks_compose_to_the_network(arch):
    network = network_of(arch)
    x = images()
    out = x
    for block in network.blocks():
        out = block(out)
    assert len(network.blocks()) == BLOCKS[arch]
    assert torch.equal(out, network(x))


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize(("classes", "channels", "size"), [(2, 1, 8), (7, 3, 16)])
def test_takes_any_classes_channels_and_sizes(arch, classes, channels, size):
    network = network_of(arch, classes, channels)
    assert network(images(2, channels, size)).shape == (2, classes)


def norm(state, name, x):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]


def test_wide_resnet_is_the_published_recursion():
    network = network_of("wrn-16-2")
    state = network.state_dict()
    x = F.conv2d(images(), state["conv1.weight"], padding=1)
    for stage in range(1, 4):
        for block in range(2):
            prefix = f"block{stage}.layer.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            active = norm(state, f"{prefix}.bn1", x).relu()
            if block == 0:
                x = F.conv2d(active, state[f"{prefix}.convShortcut.weight"], stride=stride)
            out = F.conv2d(active, state[f"{prefix}.conv1.weight"], stride=stride, padding=1)
            out = norm(state, f"{prefix}.bn2", out).relu()
            x = x + F.conv2d(out, state[f"{prefix}.conv2.weight"], padding=1)
    x = norm(state, "bn1", x).relu()
    expected = F.adaptive_avg_pool2d(x, 1).flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(network(images()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("depth", "theirs"), [(18, resnet18), (50, resnet50)])
def test_common_resnet_is_torchvisions_behind_another_stem(depth, theirs):
    network = network_of(f"resnet{depth}", classes=10)
    with torch.random.fork_rng():
        reference = theirs(num_classes=10)
        reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    renamed = {
        name.replace("shortcut", "downsample").replace("linear", "fc"): tensor
        for name, tensor in network.state_dict().items()
    }
    reference.load_state_dict(renamed)
    torch.testing.assert_close(network(images()), reference.eval()(images()), rtol=1e-4, atol=1e-4)


def test_torchvision_resnet_is_torchvisions_own():
    network = network_of("torchvision-resnet18")
    with torch.random.fork_rng():
        reference = resnet18(num_classes=10)
    reference.load_state_dict(network.state_dict())
    assert torch.equal(network(images(size=64)), reference.eval()(images(size=64)))


def test_cifar_shortcut_drops_pixels_and_pads_channels_on_both_sides():
    block = network_of("resnet20").layer2[0]
    with torch.no_grad():
        block.bn2.weight.zero_()  # what is left is the shortcut
        block.bn2.bias.zero_()
    x = images(1, 16)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() == out[:, 24:].abs().sum() == 0


@pytest.mark.parametrize("arch", ["resnet20", "preact-resnet18", "resnet18", "wrn-10-1"])
def test_dropout_follows_its_own_generator_and_only_in_training(arch):
    network = build(arch, 10, 3, dropout=0.5)
    plain = build(arch, 10, 3)
    assert torch.equal(network.eval()(images()), plain.eval()(images()))
    network.train()
    with pytest.raises(ValueError, match="expected seed_dropout"):
        network(images())
    state = torch.get_rng_state()
    outs = []
    for seed in (0, 0, 1):
        seed_dropout(network, torch.Generator().manual_seed(seed))
        outs.append(network(images()))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_comes_right_after_the_second_batch_norm():
    block = build("resnet20", 10, 3, dropout=0.5).layer1[0].train()
    seed_dropout(block, torch.Generator().manual_seed(0))
    seen = []
    block.bn2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    block.dropout.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    block(images(2, 16))
    before, (dropout_input, dropped) = seen
    assert dropout_input is before
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * before[kept])
    assert 0.4 < kept.double().mean() < 0.6


@pytest.mark.parametrize(
    ("arch", "classes", "message"),
    [
        ("wrn-27-10", 10, "expected depth 6 n \\+ 4, got 27"),
        ("resnet20", 1, "at least 2 classes, got 1"),
        ("resnet21", 10, "resnet21: expected depth 6 n \\+ 2, as in resnet20 and resnet32, got 21"),
        ("resnet20-d", 10, "unknown architecture 'resnet20-d'; closest: resnet"),
    ],
)
def test_impossible_networks_are_refused(arch, classes, message):
    with pytest.raises(InputError, match=message):
        build(arch, classes, 3)
