"""Batch-norm fingerprints: closed forms, and networks whose batch-norms remember known inputs."""

import math

import pytest
import torch
from torch import nn

from robustbench_coded.data.augment import KINDS
from robustbench_coded.models.recognition import BatchNormEvidence, closest, divergences, trained_batch_norms


def of_kind(kind, x):
    return KINDS[kind](x.clone(), torch.Generator().manual_seed(0))


def seen(model, network, images, layers=None):
    """The batch-norms' inputs beside what they remember."""
    found = divergences(model, network, images, layers)
    return BatchNormEvidence(None, "plain", tuple(found), tuple(found.values()), len(images))


def images(n=64, channels=3, size=8, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def norm_of(mean, variance, eps=0.0):
    norm = nn.BatchNorm2d(1, eps=eps)
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(variance)
    return norm.eval()


def gaussian_divergence(m, v, stored_m, stored_v):
    """KL both ways between two Gaussians."""
    one = 0.5 * (v / stored_v + (m - stored_m) ** 2 / stored_v - 1 + math.log(stored_v / v))
    return one + 0.5 * (stored_v / v + (m - stored_m) ** 2 / v - 1 + math.log(v / stored_v))


@pytest.mark.parametrize(("mean", "variance"), [(0.5, 0.25), (0.4, 0.25), (0.5, 0.5), (-1.0, 3.0)])
def test_a_divergence_is_that_of_two_gaussians(mean, variance):
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 2, 2)  # mean 1/2, variance 1/4
    norm = norm_of(mean, variance)
    found = seen(norm, norm, x)
    assert found.layers == ("",)
    assert found.divergences[0] == pytest.approx(
        gaussian_divergence(0.5, 0.25, mean, variance), rel=1e-6, abs=1e-7
    )


def test_images_weigh_alike_however_they_are_batched():
    norm = norm_of(0.2, 1.0)
    x = images(300, 1)
    found = seen(norm, norm, x)
    m, v = float(x.double().mean()), float(x.double().var(correction=0))
    assert found.divergences[0] == pytest.approx(gaussian_divergence(m, v, 0.2, 1.0), rel=1e-5)


def stack(activation):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten()
    )


def test_what_a_network_remembers_is_reproduced_and_a_wrong_part_shows_behind_it(remembering):
    x = images(256)
    network = remembering(stack(nn.ReLU()), x)
    right = seen(network, network, x)
    assert max(right.divergences) < 1e-4  # the unbiased variance is stored, the biased one measured
    other = stack(nn.SiLU()).eval()
    other.load_state_dict(network.state_dict())
    wrong = seen(other, other, x)
    assert wrong.divergences[0] == pytest.approx(right.divergences[0])
    assert wrong.divergences[1] > 0.1
    assert wrong.departs_at(0.01) == "4"
    assert right.departs_at(0.01) == max(zip(right.divergences, right.layers, strict=True))[1]


def test_layers_after_the_last_one_asked_for_are_not_computed(remembering):
    network = remembering(stack(nn.ReLU()), images())
    calls = []
    network[3].register_forward_hook(lambda *_: calls.append(1))
    assert seen(network, network, images(200), layers=1).layers == ("1",)
    assert not calls
    assert seen(network, network, images(200), layers=2).layers == ("1", "4")
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_fresh_batch_norms_remember_nothing():
    network = stack(nn.ReLU()).eval()
    assert trained_batch_norms(network) == {}
    assert divergences(network, network, images()) == {}


def test_one_late_layer_moves_the_score_though_not_the_median():
    usual = BatchNormEvidence(None, "plain", tuple("abcde"), (1e-4,) * 5, 1)
    late = BatchNormEvidence(None, "plain", tuple("abcde"), (1e-4,) * 4 + (1e-2,), 1)
    assert late.median == usual.median
    assert usual.score == pytest.approx(1e-4)
    assert late.score == pytest.approx(((4 * 0.01 + 0.1) / 5) ** 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_kinds_of_training_images(kind, channels):
    x = images(40, channels)
    before = x.clone()
    made = of_kind(kind, x)
    assert torch.equal(x, before)
    assert made.shape == x.shape and made.dtype == x.dtype
    assert float(made.min()) >= 0 and float(made.max()) <= 1
    assert torch.equal(made, of_kind(kind, x))
    assert (kind == "plain") == torch.equal(made, x)


def test_mixed_images_have_the_variance_of_mixup():
    """Uniform weights w: the variance of w a + (1 - w) b about the common mean is E[w^2 + (1-w)^2] = 2/3."""
    x = (torch.rand(4000, 1, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    assert float(of_kind("mixed up", x).var()) == pytest.approx(0.25 * 2 / 3, rel=0.02)


def test_what_is_four_times_as_far_and_not_by_chance_goes_no_further():
    def scored(score, images=512):
        return BatchNormEvidence(None, "plain", ("1",), (score,), images)

    right, near, far = scored(0.0004), scored(0.0009), scored(0.002)
    assert closest([far, near, right]) == [right, near]
    assert closest([scored(0.0081), scored(0.002)]) == [scored(0.002)]
    few = [scored(0.002, 16), scored(0.0004, 16)]
    assert closest(few) == few[::-1]  # so few images do not tell them apart


@pytest.mark.parametrize("variance", [1.0, 1 - 1e-5])
def test_batch_norms_folded_into_convolutions_remember_nothing(variance):
    norm = nn.BatchNorm2d(4)
    norm.running_var.fill_(variance)
    assert trained_batch_norms(nn.Sequential(norm)) == {}
    norm.running_var[1] = 1.01
    assert list(trained_batch_norms(nn.Sequential(norm))) == ["0"]
