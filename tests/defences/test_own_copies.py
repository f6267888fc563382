"""Defences that hand out one buffer for every answer, or for every draw."""

import numpy as np
import pytest
import torch
from torch import nn

from attacks.estimators import PlainModel
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.per_batch import own_draw
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.probe import probe
from robustbench_coded.defences.protocol import logits_grouped
from robustbench_coded.defences.sampling import SamplingModule

X = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(1))


class OneBuffer(nn.Module):
    """Sums of pixels, always in the same tensor where no gradient is recorded."""

    def __init__(self):
        super().__init__()
        self.buffer = torch.zeros(64, 2)

    def forward(self, x):
        score = x.flatten(1).sum(1)
        answer = torch.stack([score, -score], 1)
        return answer if torch.is_grad_enabled() else self.buffer[: len(x)].copy_(answer)


class Object:
    """The same behind the protocol; its draws, too, are one tensor."""

    name, randomised, batch_dependent, base = "buffers", True, False, None

    def __init__(self):
        self.network, self.noise = OneBuffer(), torch.zeros(64, 1, 2, 2)

    def sample(self, generator, k):
        return self.noise.normal_(generator=generator)

    def logits(self, x, draw):
        return self.network(x + draw[: len(x)])


def module():
    defence = SamplingModule(OneBuffer(), name="module")
    return lambda x: defence.logits(x, None)


def standard():
    defence = Standard(OneBuffer())
    return lambda x: defence.logits(x, None)


def grouped():
    defence = Standard(OneBuffer())
    return lambda x: logits_grouped(defence, x[None], [None])


def base():
    model = PlainModel(OneBuffer())
    return lambda x: model.logits(x[None], ())


def brought():
    defence = as_defence(Object(), None, name="", origin="")
    return lambda x: defence.logits(x, torch.zeros(8, 1, 2, 2))


@pytest.mark.parametrize("asked", [module, standard, grouped, base, brought])
@torch.no_grad()
def test_an_answer_stays_when_something_else_is_asked(asked):
    answers = asked()
    first = answers(X)
    kept = first.clone()
    answers(1 - X)
    assert torch.equal(first, kept)


def test_draws_of_one_tensor_are_as_many_draws():
    defence = as_defence(Object(), None, name="", origin="")
    generator = torch.Generator().manual_seed(0)
    first, second = defence.sample(generator, 4), defence.sample(generator, 4)
    assert not torch.equal(first, second)
    result = probe(defence, X, generator)
    assert result.same_draw == 0 and result.other_draws > 0.1


def test_draws_are_copied_inside_containers():
    buffer, array = torch.zeros(2), np.zeros(2)
    draw = own_draw({"a": [buffer, (array, 3)], "b": "text"})
    buffer += 1
    array += 1
    assert draw["a"][0].sum() == 0 and draw["a"][1][0].sum() == 0 and draw["a"][1][1] == 3
    assert own_draw(buffer.sum) == buffer.sum  # whatever else a draw is, it stays that object


def test_a_gradient_passes_through_the_copy():
    leaf = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Standard(OneBuffer()).logits(leaf, None)[:, 0].sum(), leaf)
    assert (slope == 1).all()


class Writes(nn.Module):
    """Changes its input where it stands, also where gradients are asked of that."""

    name, randomised, batch_dependent, base = "writes", False, False, None

    def sample(self, generator, k):
        return None

    def fit(self, x):
        x.zero_()

    def logits(self, x, draw):
        return x.mul_(2).flatten(1)[:, :2]

    def forward(self, x):
        return self.logits(x, None)


@pytest.mark.parametrize("as_object", [True, False])
def test_a_defence_may_write_into_its_input(as_object):
    defence = (
        as_defence(Writes(), None, name="", origin="") if as_object else SamplingModule(Writes(), name="")
    )
    leaf = X.clone().requires_grad_()
    answers = defence.logits(leaf, 0)
    assert torch.equal(answers, 2 * X.flatten(1)[:, :2]) and torch.equal(leaf, X)
    (slope,) = torch.autograd.grad(answers.sum(), leaf)
    assert slope.sum() == 2 * answers.numel()
