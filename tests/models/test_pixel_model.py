"""The Model: pixels to logits, the normalisation inside, blocks that compose to all of it."""

import pytest
import torch
from torch import nn

from attacks.crossover import SmoothedReLU
from robustbench_coded.models.pixel_model import CPU_IMAGES, SMALL_IMAGES, PixelModel
from robustbench_coded.paper.training.fresh import build

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(count=4):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_normalises_before_the_network_channel_by_channel():
    network = build("resnet20", 10, 3)
    model = PixelModel(network, MEAN, STD, classes=10, arch="resnet20")
    x = pixels()
    by_hand = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(x), network(by_hand), rtol=1e-5, atol=1e-5)
    assert (model.classes, model.channels, model.arch) == (10, 3, "resnet20")


def test_blocks_compose_to_the_model_and_begin_with_the_normalisation():
    model = PixelModel(build("preact-resnet18", 10, 3), MEAN, STD, classes=10, arch="preact-resnet18")
    out = pixels()
    for block in model.blocks():
        out = block(out)
    assert len(model.blocks()) == 5
    assert torch.equal(out, model(pixels()))


def test_a_network_without_blocks_is_one_block():
    """timm calls a list of layers `blocks`: that is not a composition."""

    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.Sequential(nn.Linear(3, 3))

        def forward(self, x):
            return x.mean((2, 3))

    model = PixelModel(Outside(), MEAN, STD, classes=3, arch="")
    (block,) = model.blocks()
    assert torch.equal(block(pixels()), model(pixels()))


def test_is_frozen_and_in_eval_mode_but_differentiable_in_the_pixels():
    network = build("digits-cnn", 10, 3)
    assert network.training
    model = PixelModel(network, MEAN, STD, classes=10, arch="digits-cnn")
    x = pixels().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model(pixels()).dtype == torch.float32


def test_no_normalisation_is_the_network_itself():
    network = build("digits-cnn", 10, 1)
    model = PixelModel(network, (0.0,), (1.0,), classes=10, arch="digits-cnn")
    x = pixels()[:, :1]
    assert torch.equal(model(x), network(x))


class Widest(nn.Module):
    """Flattens; remembers how many images it was shown at once."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(len(x))
        return x.flatten(1) ** 2


@pytest.mark.parametrize("side, most", [(16, SMALL_IMAGES), (17, CPU_IMAGES)])
@pytest.mark.parametrize("more", [0, 1])
def test_a_cpu_answers_many_images_in_pieces_with_the_same_gradients(side, most, more):
    network = Widest()
    model = PixelModel(network, (0.0,), (1.0,), classes=4, arch="")
    x = torch.rand(most + more, 1, side, side).requires_grad_()
    logits = model(x)
    assert torch.equal(logits, x.flatten(1) ** 2) and network.shown == [most] + more * [more]
    (grad,) = torch.autograd.grad(logits.sum(), x)
    assert torch.equal(grad, 2 * x)


class Counting(nn.Module):
    """Means of fourth powers; notes how many images each call gets."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        return x.square().square().mean((2, 3)) * 3


def kept(model, x):
    """The answer, and how many numbers are kept for its gradient."""
    numbers = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: numbers.append(t.numel()) or t, lambda t: t):
        return model(x), sum(numbers)


def test_gradients_of_large_images_hold_one_piece_at_a_time():
    """Of the others the graph has no activations: they are computed again, piece by piece."""
    model = PixelModel(Counting(), MEAN, STD, classes=3, arch="")
    x = torch.rand(45, 3, 224, 224, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (answer, numbers), (_, of_one) = kept(model, x), kept(model, x[25:])
    assert model.network.calls == [5, 20, 20, 20]
    assert numbers == x[:25].numel() + of_one  # what the pieces begin with, and all of the last
    (gradient,) = torch.autograd.grad(answer.logsumexp(1).sum(), x)
    assert model.network.calls[4:] == [20, 5]
    at_once = model._at_once(x)
    assert torch.equal(answer, at_once)
    assert torch.equal(gradient, torch.autograd.grad(at_once.logsumexp(1).sum(), x)[0])
    with torch.no_grad():
        model(x)
    assert model.network.calls[-3:] == [20, 20, 5]


def test_gradients_under_a_mode_are_of_what_the_mode_computed():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 3), nn.ReLU())
    model = PixelModel(network, MEAN, STD, classes=3, arch="")
    x = torch.rand(25, 3, 224, 224, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with SmoothedReLU(torch.ones(25)):
        answer = model(x)
    (gradient,) = torch.autograd.grad(answer.sum(), x)
    assert gradient.abs().amin((1, 2, 3)).min() > 0
