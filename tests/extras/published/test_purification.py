"""Gradients through a sampler's steps: exact, at a quarter of the memory, and wrong ones are noticed."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.selftests import Scene, run_all
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.extras.published import purification
from robustbench_coded.extras.published.purification import ScorePurification
from robustbench_coded.models.loading import load_checkpoint

pytestmark = pytest.mark.long

EXAMPLES, POOL = 16, 64


@pytest.fixture(scope="module")
def digits():
    """A shipped network, images with their labels, and others."""
    data = load_digits("test")
    x, y = data.batch(range(EXAMPLES))
    network = with_normalisation(load_checkpoint("digits-erm"), x, y)
    return network, x, y, data.batch(range(300, 300 + POOL))[0]


def in_full(step, x, times):
    """The plain loop over the steps, every intermediate kept."""
    for time in times:
        x = step(x, time)
    return x


def bytes_saved(forward, x):
    """How much autograd keeps of a forward, every storage counted once, without what was there before."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        found = forward(x)
    assert found.requires_grad
    kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in kept.values())


def test_gradients_are_exact_at_a_quarter_of_the_memory(digits, monkeypatch):
    network, x, _, pool = digits
    defence = ScorePurification(network, pool)

    def gradient():
        leaf = x.clone().requires_grad_()
        logits = defence.logits(leaf, 3)
        return torch.autograd.grad(logits.logsumexp(-1).sum() - logits[:, 0].sum(), leaf)[0]

    leaf = x.clone().requires_grad_()
    # On the way back one step after the other is there once more.
    one = bytes_saved(lambda noisy: defence.stepped(noisy, 0.1), leaf)
    spared, exact = bytes_saved(defence.purified, leaf) + one, gradient()
    monkeypatch.setattr(purification, "recompute", in_full)
    whole, plain = bytes_saved(defence.purified, leaf), gradient()
    assert plain.abs().sum() > 0
    assert torch.equal(exact, plain)
    assert 0 < spared <= whole / 4


class Detached(ScorePurification):
    """Cuts the graph before the sampler."""

    def purified(self, x):
        return super().purified(x.detach())


class Remainder(ScorePurification):
    """Lends the answer the gradient of what the sampler removes, not of what it leaves."""

    def purified(self, x):
        left = super().purified(x)
        removed = x - left
        return left.detach() + removed - removed.detach()


def failed(defence, digits):
    _, x, y, _ = digits
    scene = Scene(
        Target(defence, EXAMPLES, 0, [0]), x[None], y[None], PerturbationBudget("linf", 0.2), False,
        [torch.Generator().manual_seed(0)],
    )  # fmt: skip
    return {test.name: test.finding for test in run_all(scene) if test.outcome == "failed"}


@pytest.mark.parametrize("wrong", [Detached, Remainder])
def test_wrong_samplers_are_caught_by_the_self_tests(digits, wrong):
    assert failed(wrong(digits[0], digits[3]), digits)


def test_the_exact_one_is_not(digits):
    assert failed(ScorePurification(digits[0], digits[3]), digits) == {}
