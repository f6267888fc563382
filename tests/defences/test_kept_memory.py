"""What a defence remembers is kept over a sequence, and over the queries of an attacker."""

import pytest
import torch

from attacks.attack import read_attack
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.defences.per_batch import KeptMemory, PerBatch, Session
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.extras.published.batch_adaptation import Tent
from robustbench_coded.extras.published.registry import PUBLISHED


class Counting:
    """Answers every input with the number of inputs that it was asked about before its batch."""

    name, randomised, batch_dependent, base, remembers = "counting", False, True, None, True

    def __init__(self):
        self.fitted, self.seen = [], 0

    def reset(self):
        self.fitted, self.seen = [], 0

    def fit(self, x):
        self.fitted.append(len(x))

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        answers = torch.stack([torch.full((len(x),), float(self.seen)), x.flatten(1).sum(1)], dim=1)
        self.seen += len(x)
        return answers


class Noisy(Counting):
    name, randomised = "noisy", True

    def sample(self, generator, k):
        return torch.rand(k, generator=generator)

    def logits(self, x, draw):
        return super().logits(x, None) + draw[:, None]


X = torch.arange(10.0).reshape(10, 1, 1, 1) / 10


def test_a_sequence_keeps_the_memory_and_begins_without_one():
    kept = KeptMemory(PerBatch(Counting()), 4)
    for _ in range(2):
        assert kept.logits(X, None)[:, 0].tolist() == [0.0] * 4 + [4.0] * 4 + [8.0] * 2
    assert kept.defence.fitted == [4, 4, 2]
    assert kept.batch_dependent and kept.images(10) == 10


def test_each_batch_has_a_draw_of_its_own():
    kept = KeptMemory(PerBatch(Noisy()), 4)
    draw = kept.sample(torch.Generator().manual_seed(0), 10)
    assert [len(part) for part in draw] == [4, 4, 2] and draw[0][0] != draw[1][0]
    torch.testing.assert_close(kept.logits(X, draw)[4:8, 0], 4 + draw[1])


def test_a_session_remembers_queries_and_scores_what_was_asked_as_it_was_answered():
    kept = KeptMemory(PerBatch(Counting()), 4)
    session = Session(kept)
    session.logits(X[:4], None)
    session.logits(X[:6], None)  # again: the first answer stands
    new = X[:2] + 100
    for _ in range(2):  # scoring leaves nothing behind
        scored = session.scored().logits(torch.cat([X[:6], new]), None)
        assert scored[:, 0].tolist() == [0.0] * 4 + [8.0] * 2 + [10.0] * 2
    assert session.emptied.logits(X[:1], None)[0, 0] == 0
    assert session.logits(X[:1], None)[0, 0] == 10


def test_a_random_defence_is_asked_again_for_scoring():
    session = Session(KeptMemory(PerBatch(Noisy()), 4))
    draws = [session.sample(torch.Generator().manual_seed(seed), 4) for seed in (0, 1)]
    session.logits(X[:4], draws[0])
    torch.testing.assert_close(session.scored().logits(X[:4], draws[1])[:, 0], 4 + draws[1][0])


def test_a_memory_without_a_way_to_empty_it_is_refused():
    wrong = Counting()
    wrong.reset = None
    with pytest.raises(InputError, match=r"which remembers and has no reset\(\)"):
        as_defence(wrong, None, name="wrong", origin="it returned")


def test_published_defences_that_remember():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 3)
            )

        def forward(self, x):
            return self.layers(x)

    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    tent = PUBLISHED["tent"].build(Model().double().eval().requires_grad_(False))
    alone, kept = tent.logits(x[4:8], None), KeptMemory(tent, 4)
    assert not torch.allclose(kept.logits(x, None)[4:8], alone, atol=1e-6)  # a step further
    torch.testing.assert_close(kept.logits(x, None)[:4], tent.logits(x[:4], None))
    # An earlier batch is followed into a later answer.
    leaf = x.clone().requires_grad_()
    slope = torch.autograd.grad(kept.logits(leaf, None)[8:].square().sum(), leaf)[0]
    assert slope[:4].abs().sum() > 0
    moved = x.clone()
    moved[:4] += 1e-3 * slope[:4] / slope[:4].norm()
    rise = kept.logits(moved, None)[8:].square().sum() - kept.logits(x, None)[8:].square().sum()
    assert float(rise) == pytest.approx(1e-3 * float(slope[:4].norm()), rel=1e-2)
    assert isinstance(tent.defence, Tent)
    session = Session(kept)  # after a gradient, whose graph hangs on what is kept
    first = session.logits(x[:4], None)
    torch.testing.assert_close(first, kept.logits(x[:4], None))
    assert not torch.equal(session.logits(x[:4], None), first)


def test_a_search_that_stays_apart_is_seen_less_than_a_fine_one():
    """A detector of near-duplicates: what it rejects, and what the attacks leave on a linear network."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).requires_grad_(False)
    pool = torch.rand(64, 1, 8, 8)
    kept = KeptMemory(PUBLISHED["stateful-detection"].build(base, pool), 8)
    kept.defence.threshold = 0.6
    x = torch.rand(32, 1, 8, 8)
    y = base(x).argmax(-1)

    def left(name):
        session = Session(kept)
        inputs = AttackInputs(
            Target(session, 32, 0, [0]), None, x[None], y[None], PerturbationBudget("linf", 0.1),
            [torch.Generator().manual_seed(0)],
        )  # fmt: skip
        found = perturb(read_attack(name), inputs).x[0]
        answers = session.scored().logits(found, None).argmax(-1)
        asked = torch.stack(list(session._answered.values())).argmax(-1)
        return int(((answers == y) | (answers == 2)).sum()), float((asked == 2).float().mean())

    fine, apart = left("square-100"), left("random-100+apart=0.8")
    assert apart[0] < fine[0] and apart[1] < fine[1] / 2
