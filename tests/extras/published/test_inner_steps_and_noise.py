"""Published defences with inner steps or noise of their own, MeanSparse and AAA."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustbench_coded import recompute
from robustbench_coded.errors import InputError
from robustbench_coded.extras.published import activations, answers, purification, self_ensemble, smoothing

CUT = Path(__file__).parents[3] / "docs" / "examples" / "et3_cut.py"


def images(count=4, seed=0):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def smooth():
    """A network without kinks, in float64: its gradients can be compared with differences."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 5))
        nn.init.normal_(layers[1].weight)  # curved enough for inner steps to matter
        return nn.Sequential(*layers).double().eval().requires_grad_(False)


def test_et3_gradients_are_those_of_its_answers_and_the_cut_ones_are_not(smooth):
    x = (0.2 + 0.6 * images(2)).double().requires_grad_()
    exact, cut = purification.Et3(smooth), runpy.run_path(str(CUT))["build"](smooth)
    torch.testing.assert_close(exact.logits(x, None), cut.logits(x, None))
    assert torch.autograd.gradcheck(lambda a: exact.logits(a, None), x, fast_mode=True)
    assert not torch.autograd.gradcheck(
        lambda a: cut.logits(a, None), x, fast_mode=True, raise_exception=False
    )


def test_et3_lowers_the_energy_within_its_ball_and_the_box_whoever_asks(smooth):
    x = images().double()
    defence = purification.Et3(smooth)
    with torch.no_grad():
        moved = defence.descended(x)
    with torch.inference_mode():
        torch.testing.assert_close(defence.descended(x), moved)
    radius = purification.REACH * purification.DEFENDED[1] * 6
    assert (purification.length(moved - x) <= radius * (1 + 1e-9)).all()
    assert moved.min() >= 0 and moved.max() <= 1
    assert (smooth(moved).logsumexp(-1) > smooth(x).logsumexp(-1)).all()


def test_inner_gradients_are_computed_again_to_the_last_bit(smooth):
    def step(x, t):
        energy = -smooth(x).logsumexp(-1).sum()
        (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        return x - 0.1 * slope

    def loop(x):
        for t in range(5):
            x = step(x, t)
        return x

    leaf = images().double().requires_grad_()
    kept = torch.autograd.grad(smooth(loop(leaf)).square().sum(), leaf)[0]
    again = torch.autograd.grad(smooth(recompute(step, leaf, 5)).square().sum(), leaf)[0]
    assert torch.equal(kept, again)


def test_translations_repeat_edges_and_their_inverse_restores_the_inside():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    moved = self_ensemble.translated(x, 1, -2)
    assert torch.equal(moved[..., 1:, :4], x[..., :-1, 2:])
    assert torch.equal(moved[..., 0, :4], x[..., 0, 2:])
    assert torch.equal(moved[..., 1:, 4], x[..., :-1, -1])
    back = self_ensemble.translated(moved, -1, 2)
    assert torch.equal(back[..., :-1, 2:], x[..., :-1, 2:])


def test_srle_averages_aligned_features_before_the_last_block():
    seen = []

    class Halving(self_ensemble.nn.Module):
        def forward(self, x):
            return nn.functional.avg_pool2d(x, 2)

    defence = self_ensemble.Srle(nn.Identity())

    def head(features):
        seen.append(features)
        return features.flatten(1)

    defence.encoder, defence.head = [Halving()], head
    ramp = torch.arange(12.0).view(1, 1, 1, 12).expand(2, 1, 12, 12) / 12
    defence.logits(ramp, None)
    # A ramp is moved and moved back: inside, the mean of aligned features is the network's own feature.
    assert seen[0].shape == (2, 1, 6, 6)
    torch.testing.assert_close(seen[0][..., 1:-1, 1:-1], Halving()(ramp)[..., 1:-1, 1:-1])
    assert defence.images(2) == 18


def test_noise_is_stronger_where_the_network_looks():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    defence = purification.HeterogeneousNoise(layer, images(8, seed=3))
    x = 0.2 * torch.ones(1000, 1, 6, 6)
    x[..., 2, 3] = 1.0
    assert torch.equal(defence.looked_at(x), (x == 1).float())
    purified, levels = [], []
    defence.model = lambda a: purified.append(a) or a
    defence.denoiser = lambda a, level: levels.append(level) or a  # removes nothing: the noise stays
    defence.looked_at = lambda a: (a == 1).float()
    defence.logits(x, 0)
    off = (purified[-1] - x)[x == 1].std(), (purified[-1] - x)[x != 1].std()
    # Nothing is denoised here. The last strong step puts the others under noise of its own level.
    assert off[0] > purification.STRONG and off[1] < 0.8 * off[0]
    assert levels[0] == pytest.approx(purification.RENOISED * purification.STRONG)
    assert min(levels) < purification.WEAK


def test_features_and_weights_are_noisy_and_of_length_one():
    a = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0)) + 1
    found = smoothing.on_the_sphere(a, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4000))
    cosines = torch.cosine_similarity(found, a)
    # |a|^2 / d = 2 and the noise has a variance of 1/16 of that of a, which is 1.
    assert cosines.mean() == pytest.approx((1 / (1 + smoothing.ON_THE_SPHERE**2 / 2)) ** 0.5, abs=0.005)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).requires_grad_(False)
    defence = smoothing.Dsgn(network)
    assert defence.logits(images(), 0).abs().max() <= smoothing.COSINES
    assert not network[1]._forward_hooks


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
