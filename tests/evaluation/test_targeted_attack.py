"""``attack(..., target=...)``: inputs that are answered with a wanted class."""

import pytest
import torch
from torch import nn

from robustbench_coded import attack
from robustbench_coded.defences.rci import RCI

K, EPS = 40, 0.1
TARGET = 2


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval()


@pytest.fixture(scope="module")
def batch(model):
    x = 0.2 + 0.6 * torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return x, model(x).argmax(1)


def reachable(model, x, target):
    """Whether a linear model may answer ``target`` in the ball: it can beat each other class alone."""
    weight, z = model[1].weight, model(x)
    gain = EPS * (weight[target] - weight).abs().sum(1)
    return (z[:, target, None] + gain >= z).all(1)


NAMES = ["pgd-20", "apgd-ce-20", "apgd-t-10", "apgd-mt-10", "relaxed-pgd-20", "square-300"]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_can_be_answered_with_the_target_are(model, batch, name):
    x, y = batch
    found = attack(model, x, y, name, EPS, target=TARGET, seed=0)
    hit = model(found).argmax(1) == TARGET
    with torch.no_grad():
        could = reachable(model, x, TARGET)
    assert 0.2 < could.double().mean() < 1
    assert (hit & ~could).sum() == 0 and hit.sum() >= 0.85 * could.sum()
    assert (found - x).abs().max() <= EPS + 1e-6
    # Any other answer than y's is more than is wanted.
    assert hit.sum() > (model(attack(model, x, y, name, EPS, seed=0)).argmax(1) == TARGET).sum()


def test_every_input_may_have_a_target_of_its_own(model, batch):
    x, y = batch
    targets = (y + 1) % 4
    found = attack(model, x, y, "apgd-ce-20", EPS, target=targets, seed=0)
    for each in targets.unique().tolist():
        rows = targets == each
        alone = attack(model, x[rows], y[rows], "apgd-ce-20", EPS, target=each, seed=0)
        assert torch.equal(found[rows], alone)
    assert (model(found).argmax(1) == targets).sum() > 10


def test_by_labels_alone_it_starts_from_an_input_of_the_wanted_class():
    """Each class lies around a picture of black and white: neither noise nor flat colours are in it."""
    generator = torch.Generator().manual_seed(3)
    middles = torch.randint(0, 2, (8, 64), generator=generator).float()
    x = (0.1 + 0.8 * middles).view(8, 1, 8, 8)

    def nearest(x):
        return torch.cat([5 - torch.cdist(x.flatten(1), middles), torch.full((len(x), 1), 2.5)], 1)

    assert torch.equal(nearest(x).argmax(1), torch.arange(8))
    targets = torch.arange(8).roll(1)
    found = attack(nearest, x, torch.arange(8), "rays-60", 8.0, norm="l2", target=targets, seed=0)
    assert torch.equal(nearest(found).argmax(1), targets)


def test_it_goes_as_far_as_torchattacks_does(model, batch):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = batch
    theirs = torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=20)
    theirs.set_mode_targeted_by_label(quiet=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reached = model(theirs(x, torch.full_like(y, TARGET))).argmax(1) == TARGET
    ours = model(attack(model, x, y, "apgd-ce-20", EPS, target=TARGET, seed=0)).argmax(1) == TARGET
    assert ours.sum() >= reached.sum() > 0


def test_a_batch_dependent_defence_has_one_target(model, batch):
    x, y = batch
    defence = RCI(model, K, "1.5K")
    found = attack(defence, x, y, "transfer-pgd-10", EPS, target=TARGET, seed=0)
    assert (model(found).argmax(1) == TARGET).double().mean() > 0.3
    with pytest.raises(ValueError, match="target: expected one for all inputs of a batch-dependent defence"):
        attack(defence, x, y, "pgd-2", EPS, target=(y + 1) % 4, seed=0)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (4, "class 4 is out of range; the model answers 0 to 3"),
        (-1, "class -1 is out of range"),
        (torch.zeros(3, dtype=torch.int64), r"expected one class or \[40\] of them, got \[3\]"),
        (torch.tensor([2] * (K - 1) + [7]), "class 7 is out of range"),
        (3.5, "a whole number, or"),
        (True, "a whole number, or"),
        ("3", "a whole number, or"),
    ],
)
def test_a_target_that_is_none_is_refused_in_one_line(model, batch, target, words):
    with pytest.raises(ValueError, match=words) as refused:
        attack(model, *batch, "pgd-2", EPS, target=target, seed=0)
    assert "\n" not in str(refused.value)
