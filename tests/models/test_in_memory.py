"""Networks in memory: what they return is taken as logits, and a function is asked as a module would be."""

from collections import OrderedDict, namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.in_memory import NetworkInMemory, logits_of

LOGITS, FEATURES = torch.rand(4, 3), torch.rand(4, 7)
Inception = namedtuple("Inception", ["logits", "aux_logits"])
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize(
    "answer",
    [
        LOGITS,
        LOGITS.numpy(),
        Inception(LOGITS, FEATURES),
        {"logits": LOGITS, "features": FEATURES},
        OrderedDict(loss=torch.tensor(0.0), logits=LOGITS),
        {"out": LOGITS, "hidden": [FEATURES]},
        (LOGITS, None),
        (torch.tensor(0.0), LOGITS),
        [LOGITS],
    ],
)
def test_logits_are_found_in_what_a_network_returns(answer):
    assert torch.equal(logits_of(answer), LOGITS)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((LOGITS, FEATURES), r"a tuple \(0: \[4, 3\], 1: \[4, 7\]\), in which 2 tensors .* model\(x\)\[0\]"),
        ({"a": LOGITS, "b": FEATURES}, r"in which 2 tensors .* lambda x: model\(x\)\['a'\]"),
        ({"loss": torch.tensor(0.0)}, r"in which 0 tensors have the shape \[n, classes\]"),
        ((), "a tuple .* in which 0 tensors"),
    ],
)
def test_what_could_be_meant_in_two_ways_is_asked_back(answer, said):
    with pytest.raises(InputError, match=said):
        logits_of(answer)


def test_a_function_has_the_answers_and_gradients_of_its_module():
    x = torch.rand(4, 1, 2, 2, requires_grad=True)
    network = NetworkInMemory(lambda x: (MODEL(x), "features"))
    answers = network(x)
    assert torch.equal(answers, MODEL(x))
    mine, its = (torch.autograd.grad(a.square().sum(), x)[0] for a in (answers, MODEL(x)))
    assert torch.equal(mine, its)
    assert not network.plain and list(network.parameters()) == []


def test_a_network_is_asked_in_its_own_precision_and_answers_in_that_of_the_pixels():
    double = nn.Linear(4, 3).double()
    answers = NetworkInMemory(lambda x: double(x.flatten(1)))(torch.rand(4, 1, 2, 2))
    assert answers.dtype == torch.float32


def test_a_network_outside_torch_answers_inputs_that_want_a_gradient():
    weights = np.random.default_rng(0).normal(size=(4, 3))
    network = NetworkInMemory(lambda x: x.flatten(1).numpy() @ weights)
    x = torch.rand(4, 1, 2, 2)
    with torch.enable_grad():
        answers = network(x.clone().requires_grad_())
    torch.testing.assert_close(answers, network(x))
    assert not answers.requires_grad


class Held:
    def __init__(self, model):
        self.model = model

    def answer(self, x):
        return self.model(x)

    def __call__(self, x):
        return self.model(x)


def by_global(x):
    return MODEL(x)


def by_another(x):
    return by_global(x)


def by_argument(model, x):
    return model(x)


def closed_over():
    model = MODEL
    return lambda x: model(x)


@pytest.mark.parametrize(
    "function",
    [by_global, by_another, closed_over(), partial(by_argument, MODEL), Held(MODEL).answer, Held(MODEL)],
    ids=["global", "another function", "closure", "partial", "method", "object"],
)
def test_what_a_function_answers_by_is_known(function):
    assert any(module is MODEL for module in NetworkInMemory(function).modules_held)


def test_a_function_that_calls_itself_is_no_endless_search():
    def again(x, depth=0):
        return MODEL(x) if depth else again(x, 1)

    assert NetworkInMemory(again).modules_held
