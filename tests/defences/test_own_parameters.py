"""Parameters that a defence brings along: a graph that leads to them alone is no gradient."""

import pytest
import torch
from torch import nn

from robustbench_coded import attack, evaluate
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.evaluation.setup.probing import gradient_figures

LEVELS = 9


class Nearest(nn.Module):
    """Pixels -> the nearest levels of a codebook -> the difference of the halves of the image."""

    randomised = batch_dependent = False

    def __init__(self, *, detached: bool = False):
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(0, 1, LEVELS))
        self.detached = detached

    def forward(self, x):
        nearest = (x[..., None] - self.levels).abs().argmin(-1)
        read = self.levels[nearest]
        score = _score(read.detach() if self.detached else read)
        return torch.stack([score, -score], 1)


def _score(x):
    left, right = x.flatten(1).chunk(2, 1)
    return left.sum(1) - right.sum(1)


class Adapts:
    """Takes a step of its scale down a loss of each batch whose mean is above ``only_above``."""

    name, randomised, batch_dependent, base = "adapts", False, True, None

    def __init__(self, only_above: float = -1.0):
        self.scale, self.only_above = nn.Parameter(torch.ones(())), only_above

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        scale = self.scale
        if x.mean() > self.only_above:
            with torch.enable_grad():
                (slope,) = torch.autograd.grad((x * scale).square().mean(), scale)
            scale = scale - slope
        score = scale * _score(x)
        return torch.stack([score, -score], 1)


def _images(n=6):
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, (_score(x) < 0).long()


@pytest.mark.parametrize("build", [Nearest, lambda: Nearest(detached=True)])
def test_a_codebook_of_parameters_is_attacked_through_smooth_operators(build):
    defence, (x, y) = as_defence(build(), None, name="nearest", origin=""), _images()
    assert (defence.logits(x, None).argmax(1) == y).all()
    for name in ("relaxed-pgd-10", "pgd-10"):  # without a graph plain PGD has smooth operators, too
        moved = attack(defence, x, y, name, 0.3, seed=0)
        assert (defence.logits(moved, None).argmax(1) != y).all()


def test_gradient_figures_of_an_answer_that_only_parameters_stand_behind_are_those_of_none():
    x, y = _images()
    defence = Nearest()
    defence.name, defence.sample, defence.logits = "bare", lambda g, k: None, lambda x, draw: defence(x)
    assert gradient_figures(defence, x, y, seed=0) == {"zero_share": 1.0}


@pytest.mark.parametrize("only_above", [-1.0, 0.9])
def test_a_defence_that_adapts_its_parameters_keeps_their_gradients(only_above):
    bare, defence = Adapts(only_above), as_defence(Adapts(only_above), None, name="adapts", origin="")
    dark, light = torch.full((4, 1, 4, 4), 0.2), torch.full((4, 1, 4, 4), 0.95)
    dark[0], light[0, 0, 0] = 0.1, 0.99
    for x in (dark, light, dark):
        leaf = x.clone().requires_grad_()
        answer = defence.logits(leaf, None)
        assert torch.equal(answer, bare.logits(x, None))
        assert answer.requires_grad
        with torch.no_grad():
            assert torch.equal(defence.logits(x, None), bare.logits(x, None))
    assert defence.defence.scale.requires_grad


def test_the_parameters_of_who_asked_want_gradients_again_afterwards(tmp_path):
    (x, y), nearest = _images(40), Nearest().eval()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    attack(network, x, y, "pgd-3", 0.1, seed=0)
    attack(nearest, x, y, "relaxed-pgd-3", 0.1, seed=0)
    nearest.name = "nearest"
    options = {"attacks": ["relaxed-pgd-3"], "eps": 0.1, "batch_size": (20,), "out": tmp_path / "run"}
    evaluate(network, (x, y), defences=[nearest], **options)
    assert all(each.requires_grad for each in (*network.parameters(), *nearest.parameters()))
