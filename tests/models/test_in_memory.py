"""Networks in memory: what they return is taken as logits, and a function is asked as a module would be."""

import copy
import functools
from collections import OrderedDict, deque, namedtuple
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.in_memory import NetworkInMemory, logits_of, networks_in, reached_from

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


def by_default(x, model=MODEL):
    return model(x)


def within(x):
    def ask(z):
        return MODEL(z)

    return ask(x)


def through_a_module(x):
    return HERE.MODEL(x)


HERE = ModuleType("of_a_user")
HERE.MODEL = MODEL


@functools.lru_cache
def remembered(x):
    return MODEL(x)


class Slots:
    __slots__ = ("kept",)

    def __init__(self, kept):
        self.kept = kept

    def __call__(self, x):
        return self.kept(x)


class ByItsClass:
    def __call__(self, x):
        return MODEL(x)


class Listed(nn.Module):
    """Parts that are no submodules."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        return next(iter(self.parts))(x)


def patched():
    module = nn.Flatten()
    module.forward = lambda x: MODEL(x)
    return module


def hooked():
    module = nn.Flatten()
    module.register_forward_hook(lambda module, inputs, answer: MODEL(inputs[0]))
    return module


REFERENCES = {
    "global": by_global,
    "another function": by_another,
    "closure": closed_over(),
    "partial": partial(by_argument, MODEL),
    "method": Held(MODEL).answer,
    "object": Held(MODEL),
    "object in an object": Held(Held(Held(Held(Held(Held(MODEL)))))),
    "default": by_default,
    "function in a function": within,
    "module of the user": through_a_module,
    "decorated": torch.no_grad()(by_global),
    "cached": remembered,
    "list": lambda x, nets=[MODEL]: nets[0](x),
    "dict": partial(by_argument, {"first": {"second": MODEL}}),
    "deque": Held(deque([MODEL])),
    "array of objects": Held(np.array([MODEL, None], dtype=object)),
    "slots": Slots(MODEL),
    "method of a class": ByItsClass(),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_what_a_function_answers_by_is_known(kind):
    network = NetworkInMemory(REFERENCES[kind])
    assert any(module is MODEL for module in (network.given, *network.held))


@pytest.mark.parametrize(
    "module",
    [
        Listed([MODEL]),
        Listed({MODEL}),
        Listed((Held(MODEL),)),
        patched(),
        hooked(),
        nn.Sequential(Listed([MODEL])),
    ],
    ids=["list", "set", "object in a tuple", "patched", "hook", "list of a part"],
)
def test_networks_beside_the_parts_of_a_module_are_found(module):
    assert networks_in(module) == [module, MODEL]


def test_code_of_installed_packages_is_not_read():
    assert networks_in(lambda x: nn.functional.relu(x)) == []
    assert len(reached_from(lambda x: nn.functional.relu(x))) < 10
    assert {type(value).__name__ for value in reached_from(MODEL)} >= {"Linear", "Flatten"}
    assert len(reached_from(MODEL)) < 200


def test_a_copy_of_a_function_shares_the_generator_that_it_draws_from():
    generator = np.random.default_rng(0)
    network = NetworkInMemory(lambda x: MODEL(x) + generator.normal())
    assert generator in network.held and generator in copy.deepcopy(network).held


class Imposter:
    """Passes itself off as whatever is asked for, and fails when its attributes are read."""

    @property
    def __class__(self):
        raise RuntimeError("read")

    def __getattr__(self, name):
        raise RuntimeError("read")


def test_looking_runs_no_code_of_the_user():
    assert networks_in([Imposter(), {"model": MODEL}]) == [MODEL]


def test_a_function_that_calls_itself_is_no_endless_search():
    def again(x, depth=0):
        return MODEL(x) if depth else again(x, 1)

    assert MODEL in NetworkInMemory(again).held
