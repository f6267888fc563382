"""Smoothing's probabilities against closed forms, and every certificate of the zoo against its truth."""

import pytest
import torch
from scipy.stats import binom
from torch import nn
from torch.special import ndtr

from robustbench_coded.defences.inferences import GaussianNoise, Standard
from robustbench_coded.extras.certification import certifier as smoothing
from robustbench_coded.extras.certification.bounds import Region
from robustbench_coded.extras.certification.certifier import Smoothing, certifiers_of
from robustbench_coded.extras.certification.graph import NotCertifiable
from robustbench_coded.extras.published.smoothing import RandomisedSmoothing
from zoo.linear import along, pattern, worst_margins
from zoo.registry import ZOO


def test_probability_is_clopper_and_pearsons_bound():
    right = torch.tensor([0, 1, 37, 100])
    low = smoothing.probability(right, 100, 1e-4)
    assert low[0] == 0
    assert low[3].item() == pytest.approx(1e-4 ** (1 / 100))  # n of n: alpha^(1/n)
    for i in (1, 2):  # at the bound, so many right answers or more have probability alpha
        assert binom.sf(int(right[i]) - 1, 100, low[i].item()) == pytest.approx(1e-4)


def test_the_bound_is_exact_for_a_half_space():
    """A linear model is the worst case of the theorem."""
    model = along(pattern(9))
    x = torch.full((1, 1, 8, 8), 0.5) + 0.1 * pattern(9)
    sigma, radius = 0.5, torch.tensor([0.3], dtype=torch.float64)
    length = model.w.double().norm()
    margin = 0.1
    p = ndtr(torch.tensor([margin / (sigma * length)]))
    expected = ndtr(torch.tensor([(margin - 0.3 * length) / (sigma * length)]))
    torch.testing.assert_close(smoothing.moved(p, radius, sigma).float(), expected.float())
    counted = smoothing.count_right(
        model, x, torch.tensor([1]), sigma, 4000, torch.Generator().manual_seed(0)
    )
    assert abs(counted.item() / 4000 - p.item()) < 4 * (p * (1 - p) / 4000).sqrt().item() + 1e-3


def test_a_majority_is_the_binomial_tail():
    p = torch.tensor([0.5, 0.8], dtype=torch.float64)
    assert smoothing.majority(p, 3).tolist() == pytest.approx([0.5, 0.8**3 + 3 * 0.8**2 * 0.2])
    assert smoothing.majority(p, 1).tolist() == pytest.approx(p.tolist())


def test_alpha_is_split_over_examples(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "robustbench_coded.extras.certification.certifier.probability",
        lambda right, samples, alpha: asked.append(alpha) or torch.zeros(len(right), dtype=torch.float64),
    )
    region = Region.around(torch.rand(2, 1, 8, 8), "l2", 0.1)
    Smoothing(along(pattern(3)), 0.5, 1).right(region, torch.tensor([0, 1]), None, torch.Generator(), 50)
    assert asked == [smoothing.ALPHA / 50]


def test_noise_in_front_of_a_network_without_bounds_is_smoothed_all_the_same():
    model = nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(64, 2))
    found = certifiers_of(GaussianNoise(model, 0.1), torch.rand(2, 1, 8, 8))
    assert [type(c).__name__ for c in found] == ["Smoothing"]


ENTRIES = {  # how much of the truth's lower end has to be certified
    "smoothing": 0.6, "smoothing-thin": 0, "lipschitz": 0, "lipschitz-narrow": 0, "trained-linear": 0.99,
    "digits-pgd-at": 0.75, "noise-wide": 0, "noise-narrow": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_certified_lies_below_the_truth_of_the_zoo(name):
    entry = ZOO[name]
    k = 8 if name == "digits-pgd-at" else 32
    known = entry.load(k)
    x, y = known.x[:k], known.y[:k]
    truth = known.truth("batch/unknown")
    certifiers = certifiers_of(known.defence, x)
    for certifier in certifiers:
        draw = known.defence.sample(torch.Generator().manual_seed(0), k)
        found = certifier.right(
            Region.around(x, entry.norm, entry.eps), y, draw, torch.Generator().manual_seed(1), k
        )
        assert found.mean() <= truth.high + 1e-9
        if certifier is certifiers[0]:
            assert found.mean() >= ENTRIES[name] * truth.low - 1e-9
    if name.startswith("noise"):
        model = known.defence.model
        exact = ndtr(worst_margins(model, x, y, entry.eps) / (known.defence.sigma * model.w.double().norm()))
        assert (found <= 1).all() and certifiers[0].right(
            Region.around(x, entry.norm, entry.eps), y, 0, torch.Generator().manual_seed(1), k
        ).le(exact + 1e-9).all()


def test_the_published_vote_is_certified_by_its_own_noise_and_votes():
    defence = RandomisedSmoothing(along(pattern(9)), sigma=0.4, votes=7)
    (certifier,) = certifiers_of(defence, torch.rand(2, 1, 8, 8))
    assert isinstance(certifier, Smoothing)
    assert (certifier.sigma, certifier.votes) == (0.4, 7)
    logits = defence.logits(torch.rand(3, 1, 8, 8), 5)
    assert (7 * logits / 10).round().sub(7 * logits / 10).abs().max() < 1e-5  # shares of seven votes


def test_a_subclass_has_no_bound():
    class Otherwise(Standard):
        def logits(self, x, draw):
            return -super().logits(x, draw)

    with pytest.raises(NotCertifiable, match="none of the defences"):
        certifiers_of(Otherwise(along(pattern(3))), torch.rand(2, 1, 8, 8))
