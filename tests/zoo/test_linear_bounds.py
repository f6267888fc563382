"""The certificate of the digits network against exact and empirical answers."""

from itertools import product

import pytest
import torch

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.models.architectures.sequential import DigitsCNN
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.zoo import trained
from robustbench_coded.zoo.trained import digits_network, standing_after_descent


def small_network(seed):
    torch.manual_seed(seed)  # the global generator of a test process; layers draw from nothing else
    network = DigitsCNN(classes=3, width=2)
    for norm in (network.bn1, network.bn2, network.bn3):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(std=0.3)
    return PixelModel(network, (0.3,), (0.4,), classes=3, arch="digits-cnn")


def smallest(model, x, y, eps):
    """What the bounds say of the margins at one image."""
    found = []
    original = trained._smallest_margin

    def noted(*arguments):
        found.append(original(*arguments))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "_smallest_margin", noted)
        trained.certified(model, x, y, eps)
    return torch.cat(found).amin(1)


def margins(model, x, y):
    logits = model(x)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return logits.gather(1, y[:, None]).squeeze(1) - others.amax(1)


@pytest.mark.parametrize("seed", range(5))
def test_no_corner_goes_below_the_bound(seed):
    """Images of 3 x 3 pixels: all 512 corners of the box, and points inside."""
    model, eps = small_network(seed), 0.05
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, 3, 3, generator=generator)
    y = model(x).argmax(1)
    bound = smallest(model, x, y, eps).item()
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
    inside = 2 * torch.rand(500, 1, 3, 3, generator=generator) - 1
    ball = (x + eps * torch.cat([signs, inside])).clamp(0, 1)
    lowest = margins(model, ball, y.expand(len(ball))).min().item()
    assert bound <= lowest + 1e-5
    assert lowest - bound < 0.5 * (margins(model, x, y).item() - bound) + 1e-4  # and it is not far below


def test_the_bound_is_exact_where_no_relu_changes_sign():
    model = small_network(0)
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    found = smallest(model, x, y, 0.0)
    torch.testing.assert_close(found.float(), margins(model, x, y), atol=1e-5, rtol=1e-4)


def test_a_certificate_with_a_line_too_steep_would_be_noticed():
    """The planted fault: the upper line through the origin, which lies below the ReLU for negative inputs."""
    faulty = []
    for seed in range(5):
        model, eps = small_network(seed), 0.3
        x = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        y = model(x).argmax(1)
        signs = torch.tensor(list(product((-1.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
        ball = (x + eps * signs).clamp(0, 1)
        lowest = margins(model, ball, y.expand(len(ball))).min().item()
        with pytest.MonkeyPatch.context() as patch:
            original = trained._through_relu
            patch.setattr(trained, "_through_relu", lambda *a, original=original: (original(*a)[0], 0.0))
            faulty.append(smallest(model, x, y, eps).item() > lowest + 1e-5)
        assert smallest(model, x, y, eps).item() <= lowest + 1e-5
    assert any(faulty)


def test_the_certificates_kept_are_those_found():
    """Four of the 256 images; the rest by python -m robustbench_coded.zoo.trained."""
    some = [0, 1, 2, 3]
    model = digits_network(trained.NAME)
    x, y = load_digits("test").batch(some)
    assert (~trained.certified(model, x, y, trained.EPS)).nonzero().squeeze(1).tolist() == [1, 2]
    assert [i for i in some if i in trained.UNCERTIFIED] == [1, 2]


@pytest.mark.long
def test_what_is_certified_stands_after_descents():
    known = trained.known_pgd_at(n=64)
    stands = standing_after_descent(known.defence.model, known.x, known.y, trained.EPS)
    certain = torch.tensor([i not in trained.UNCERTIFIED for i in range(len(known.x))])
    assert stands[certain].all()
    truth = known.truth("batch/unknown")
    assert 0.7 < truth.low < truth.high < known.clean.high
