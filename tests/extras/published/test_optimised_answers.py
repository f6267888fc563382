"""MeanSparse and AAA: means before activations, mirrored margins."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustbench_coded.errors import InputError
from robustbench_coded.extras.published import activations, answers


def images(count=4, seed=0):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.SiLU())
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 5)).eval().requires_grad_(False)


def test_activations_near_their_channels_mean_become_it_and_the_others_stay():
    pool = torch.tensor([[0.0], [2.0], [4.0], [6.0]])  # mean 3, deviation sqrt(5) = 2.236
    defence = activations.MeanSparse(nn.ReLU(), pool)
    near = activations.NEAR * 5**0.5
    x = torch.tensor([[3 - 0.99 * near], [3 + 0.99 * near], [3 + 1.01 * near], [-1.0]], requires_grad=True)
    found = defence.logits(x, None)
    torch.testing.assert_close(found.flatten(), torch.tensor([3.0, 3.0, 3 + 1.01 * near, 0.0]))
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert slope.flatten().tolist() == [0.0, 0.0, 1.0, 0.0]


def test_every_activation_function_has_its_own_channels_also_in_pieces(network):
    pool, seen = images(30, seed=1), []

    class Pieces(nn.Module):
        def forward(self, x):
            return torch.cat([network(piece) for piece in x.split(7)])

    defence, pieces = (activations.MeanSparse(model, pool) for model in (network, Pieces()))
    assert [len(mean) for mean, _ in defence.channels] == [3, 4]
    second = network[3](functional.avg_pool2d(network[0](pool).relu(), 2))  # before the second activation
    torch.testing.assert_close(defence.channels[1][0], second.mean((0, 2, 3)))
    torch.testing.assert_close(defence.channels[1][1], second.std((0, 2, 3), correction=0))
    torch.testing.assert_close(pieces.logits(images(20), None), defence.logits(images(20), None))
    with activations.BeforeActivations(lambda a, number: seen.append(number) or a):
        network(images())
    assert seen == [0, 1]
    with pytest.raises(InputError, match="no activation function"):
        activations.MeanSparse(nn.Flatten(), pool)


def test_margins_are_mirrored_in_their_intervals():
    margins = torch.tensor([0.5, 5.5, 6.5, 11.0, 13.0])
    # Intervals of 6: 6 - m up to 6, 18 - m up to 12, 30 - m up to 18.
    assert answers.mirrored(margins).tolist() == [5.5, 0.5, 11.5, 7.0, 17.0]


def test_the_class_stays_and_its_margin_falls_as_the_networks_rises_for_every_input_by_itself():
    margins = torch.linspace(2, 5, 7)  # below, the confidence holds the margin back
    own = torch.zeros(7, 5)
    own[:, 2] = margins
    found = answers.misleading(own)
    assert (found.argmax(1) == 2).all()
    after = found.topk(2).values.diff().abs().flatten()
    assert (after.diff() < 0).all()
    torch.testing.assert_close(after, 6 - margins, atol=0.15, rtol=0)
    torch.testing.assert_close(answers.misleading(own[3:4]), found[3:4])
    x = torch.rand(3, 4, requires_grad=True)
    answer = answers.Aaa(nn.Tanh()).logits(x, None)
    torch.testing.assert_close(torch.autograd.grad(answer.sum(), x)[0], 1 - x.tanh() ** 2)
