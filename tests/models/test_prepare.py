"""Prepared models: equal to the original or not used, batch-norms folded, and what reports say about it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.models import prepare
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.prepare import fold_batch_norms, prepare_model, tf32
from robustbench_coded.paper.training.fresh import build

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(count=6):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def resnet():
    network = build("resnet20", 10, 3, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model_of(network)


def model_of(network):
    return PixelModel(network, MEAN, STD, classes=10, arch="")


def gradient(model, x, labels):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)[0]


@pytest.fixture
def bfloat16_hardware(monkeypatch):
    monkeypatch.setattr(prepare, "multiplies_bfloat16", lambda device: True)


class Mean(nn.Module):
    """Logits that are fixed mixtures of the mean colours: gradients whose signs no rounding changes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 10, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.arange(30).view(10, 3) % 7 - 3)

    def forward(self, x):
        return self.linear(x.mean((2, 3)))


class Normed(nn.Module):
    """A convolution and a batch-norm, which may be folded into it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10)


class NamesItsBatchNorm(Normed):
    """Answers otherwise once its batch-norm has become something else."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(270).view(10, 3, 3, 3) % 5 - 2)

    def forward(self, x):
        x = self.bn(self.conv(x)).mean((2, 3))
        return x if isinstance(self.bn, nn.BatchNorm2d) else 2 * x


class Float32Only(Mean):
    def forward(self, x):
        return F.linear(x.mean((2, 3)), torch.ones(10, 3))


class CannotBeCopied(Mean):
    def __deepcopy__(self, memo):
        raise TypeError("holds a socket")


def test_logits_and_gradients_are_those_of_the_original():
    model, x = resnet(), images()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared, info = prepare_model(model, x)
    assert prepared.dtype is not None
    assert (info.prepared, info.folded, info.precision, info.images) == (True, 19, "float32", 6)
    torch.testing.assert_close(prepared(x), model(x), rtol=1e-4, atol=1e-4)
    labels = torch.arange(6)
    expected = gradient(model, x, labels)
    torch.testing.assert_close(gradient(prepared, x, labels), expected, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_the_figures_are_what_a_comparison_by_hand_gives():
    model, x = resnet(), images()
    prepared, info = prepare_model(model, x, precision="bfloat16")
    ours, theirs = model(x), prepared(x)
    assert info.logit_difference == pytest.approx((ours - theirs).abs().max().item())
    assert info.largest_logit == pytest.approx(ours.abs().max().item())
    assert info.same_predictions == (ours.argmax(1) == theirs.argmax(1)).double().mean().item()
    labels = ours.argmax(1)
    signs = gradient(model, x, labels).sign() == gradient(prepared, x, labels).sign()
    assert info.same_signs == signs.double().mean().item()
    assert 0.5 < info.same_signs < 1
    assert f"{info.same_signs:.2%} of the gradients' signs" in str(info)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_compose_to_the_model_and_speak_float32(precision):
    prepared, _ = prepare_model(resnet(), images(), precision=precision)
    out = images()
    for block in prepared.blocks():
        out = block(out)
        assert out.dtype == torch.float32
    torch.testing.assert_close(out, prepared(images()), rtol=0.02, atol=0.02)
    assert len(prepared.blocks()) == 4


def test_a_copy_that_answers_otherwise_is_not_used():
    model = model_of(NamesItsBatchNorm())
    used, info = prepare_model(model, images())
    assert used is model
    assert not info.prepared
    assert "float32: on 6 images its logits differ by at most" in str(info)


def test_a_network_that_cannot_be_copied_is_used_as_it_is():
    model = model_of(CannotBeCopied())
    used, info = prepare_model(model, images())
    assert used is model
    assert str(info) == "gradients of the original model"  # no fault of its owner's


class ReadsItsInput(Normed):
    def forward(self, x):
        return self.bn(self.conv(torch.from_numpy(x.detach().numpy()) + 0 * x)).mean((2, 3))


def test_a_network_that_no_tracer_follows_is_used_as_it_is():
    _, info = prepare_model(model_of(ReadsItsInput()), images())
    assert str(info) == "gradients of the original model"


def test_a_network_that_refuses_bfloat16_is_prepared_in_float32():
    prepared, info = prepare_model(model_of(Float32Only()), images(), precision="bfloat16")
    assert (prepared.dtype, info.precision) == (torch.float32, "float32")
    assert info.declined[0].startswith("bfloat16: it failed (")


def test_auto_takes_bfloat16_where_the_signs_agree(bfloat16_hardware):
    prepared, info = prepare_model(model_of(Mean()), images(), precision="auto")
    assert (info.precision, info.same_signs) == ("bfloat16", 1.0)
    assert prepared(images()).dtype == torch.float32


def test_auto_keeps_float32_where_the_signs_do_not_agree_and_says_how_far(bfloat16_hardware):
    model = resnet()
    prepared, info = prepare_model(model, images(), precision="auto")
    asked, of_bfloat16 = prepare_model(model, images(), precision="bfloat16")
    assert prepared.dtype is not None
    assert (info.precision, prepared.dtype) == ("float32", torch.float32)
    assert of_bfloat16.same_signs < 0.99
    assert info.declined == (f"bfloat16: {of_bfloat16.comparison}",)
    assert asked.dtype is not None
    assert asked.dtype == torch.bfloat16


def test_auto_keeps_float32_on_hardware_without_bfloat16(monkeypatch):
    monkeypatch.setattr(prepare, "multiplies_bfloat16", lambda device: False)
    _, info = prepare_model(model_of(Mean()), images(), precision="auto")
    assert (info.precision, info.declined) == ("float32", ())


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    prepare_model(resnet(), images(), precision="bfloat16")
    assert torch.equal(torch.get_rng_state(), before)


def test_tf32_is_switched_for_a_block_and_put_back():
    flags = [lambda: torch.backends.cudnn.allow_tf32, lambda: torch.backends.cuda.matmul.allow_tf32]
    before = [flag() for flag in flags]
    for allowed in (True, False):
        with pytest.raises(KeyError), tf32(allowed):
            assert [flag() for flag in flags] == [allowed, allowed]
            raise KeyError
        assert [flag() for flag in flags] == before


def trained_looking(network):
    """Statistics and weights that make every batch-norm matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -1, 1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return network.eval().requires_grad_(False)


def batch_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


# In a pre-activation network half of the batch-norms follow a sum, and the stem feeds the shortcut, too.
@pytest.mark.parametrize(
    ("arch", "batch_norms_before", "foldable"),
    [
        ("digits-cnn", 3, 3),
        ("resnet20", 19, 19),
        ("preact-resnet18-bn", 17, 8),
        ("resnet18", 20, 20),
        ("wrn-10-1", 7, 3),
        ("torchvision-resnet18", 20, 20),
    ],
)
def test_a_folded_network_is_the_same_function(arch, batch_norms_before, foldable):
    network = trained_looking(build(arch, 10, 3))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == foldable
    assert (batch_norms(network), batch_norms(folded)) == (batch_norms_before, batch_norms_before - foldable)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """One convolution before two batch-norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn2(self.conv(self.bn1(self.conv(x))))


class Scaled(nn.Conv2d):
    """Not the convolution that its weights say."""

    def forward(self, x):
        return super().forward(x) ** 2


class Reshaped(Normed):
    """Something between the convolution and the batch-norm."""

    def forward(self, x):
        return self.bn(self.conv(x).relu())


@pytest.mark.parametrize(
    "make",
    [
        Twice,
        Reshaped,
        lambda: nn.Sequential(Scaled(3, 3, 3), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
    ],
    ids=["shared convolution", "relu between", "another convolution", "statistics of the batch"],
)
def test_nothing_is_folded_where_it_would_change_the_function(make):
    network = trained_looking(make())
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 0
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(folded(x), network(x))


def test_a_convolution_with_bias_and_a_batch_norm_without_weights():
    network = trained_looking(nn.Sequential(nn.Conv2d(3, 5, 3, bias=True), nn.BatchNorm2d(5)))
    network[1].weight = network[1].bias = None
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(x), network(x))
