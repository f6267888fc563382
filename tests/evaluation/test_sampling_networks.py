"""Networks that sample while they answer: runs repeat all the same, behind this package's own defences."""

import pytest
import torch
from torch import nn

from robustbench_coded import InputError, evaluate
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.sampling import WrappedSamplingNetwork
from tests.evaluation.conftest import SMALL, Wrapper, labelled
from tests.run_folders import digests

DEFENCES = ["rci:N=12", "mixup-inference:samples=2", "published:bit-depth"]


class Jitter(Wrapper):
    """A user's defence that adds noise by its own draw."""

    name, randomised = "jitter", True

    def sample(self, generator, k):
        return torch.randn(k, 1, 8, 8, generator=generator)

    def logits(self, x, draw):
        return self.model(x + 0.1 * draw)


class Dropping(nn.Module):
    """A linear network that drops pixels at random, by the global generator or by one of its own."""

    def __init__(self, own=None):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-50, 50, 128).sin().view(2, 64))
        self.own = own

    def forward(self, x):
        kept = torch.rand(len(x), 64, generator=self.own) < 0.5
        return (x.flatten(1) * kept) @ self.weight.T


@pytest.fixture(params=[None, torch.Generator], ids=["global", "own"])
def network(request):
    return Dropping(request.param and request.param())


def restart(network, seed):
    torch.manual_seed(seed)
    if network.own is not None:
        network.own.manual_seed(seed)


def test_two_runs_have_the_same_bytes(network, tmp_path):
    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x.flatten(1) @ network.weight.T).argmax(1)
    assert y.unique().tolist() == [0, 1]
    stored = []
    for seed in (1, 2):
        restart(network, seed)
        attacks = ["pgd-2", "transfer-pgd-2"]
        out = tmp_path / str(seed)
        evaluate(network, (x, y), defences=[*DEFENCES, Jitter], out=out, attacks=attacks, limit=16, **SMALL)
        stored.append(digests(out))
    assert len(stored[0]) > 10
    assert stored[0] == stored[1]


def test_a_draw_is_the_defences_own_and_one_for_the_network(network):
    around = RCI(network, 8, 12)
    defence = WrappedSamplingNetwork(around, network)
    x = torch.rand(8, 1, 8, 8)
    own, seed = defence.sample(torch.Generator().manual_seed(5), 8)
    assert torch.equal(own, around.sample(torch.Generator().manual_seed(5), 8))
    restart(network, 1)
    first = defence.logits(x, (own, seed))
    restart(network, 2)
    assert torch.equal(defence.logits(x, (own, seed)), first)
    assert not torch.equal(defence.logits(x, (own, seed + 1)), first)
    assert not torch.equal(defence.logits(x, (own.flip(0), seed)), first)


def test_a_defence_without_randomness_is_random_around_such_a_network(network, tmp_path):
    run = evaluate(network, labelled(), defences="coded:N=12", out=tmp_path, attacks="fgsm", **SMALL)
    assert {case.randomised for case in run.manifest.cases} == {True}


class Unseeded(Dropping):
    def forward(self, x):
        self.own = torch.Generator()
        self.own.seed()
        answer = super().forward(x)
        self.own = None
        return answer


def test_what_cannot_be_seeded_is_refused_and_told_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"differently when asked again, .*generators that are attributes"):
        evaluate(Unseeded(), labelled(), defences=(), out=tmp_path, attacks="fgsm", **SMALL)
