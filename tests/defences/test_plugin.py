import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.defences.plugin import build_defence
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.target import images_of

SOURCE = """
import random
import numpy as np
import torch
from torch import nn

class Noisy(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        shift = random.random() + np.random.rand()
        return self.model(x + torch.rand_like(x)) + shift

class Whole:
    name, randomised, batch_dependent = "whole", False, False
    def __init__(self, model):
        self.base = model
    def sample(self, generator, k):
        return None
    def logits(self, x, draw):
        return self.base(x)

class Weights(Noisy):
    def __init__(self, model):
        super().__init__(model)
        self.weight = torch.rand(3)

class NoBase(Whole):
    def __init__(self, model):
        pass

class Slash(torch.nn.Identity):
    name = "noise 8/255"
    def __init__(self, model):
        super().__init__()

class WrongTypes(Whole):
    randomised, name = "no", 3

class WrongMethods(Whole):
    sample = None
    def logits(self, x):
        return x

class ModuleThatSpeaks(Whole, nn.Module):
    def __init__(self, model):
        nn.Module.__init__(self)
        self.base = model

class Declared(Noisy):
    name, randomised, batch_dependent, base = "declared", True, False, None

def own_network(model):
    return nn.Flatten()

def in_a_closure(model):
    return lambda x: model(x)

def number(model):
    return 3

def fails(model):
    raise ValueError("no luck")

def leaves(model):
    raise SystemExit(0)

not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_defences.py").write_text(SOURCE)
    (tmp_path / "half_written.py").write_text("import robustbench_no_such_module")
    (tmp_path / "syntax_broken.py").write_text("def build(model:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("own_defences", "half_written", "syntax_broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def build(name, model):
    return build_defence(f"own_defences:{name}", model, 4)


def test_protocol_objects_are_taken_as_they_are(folder, model):
    for name in ("Whole", "ModuleThatSpeaks"):
        defence = build(name, model)
        assert type(defence.defence).__name__ == name
        assert (defence.name, defence.base) == ("whole", model)


def test_a_module_that_samples_answers_by_draw(folder, model):
    defence = build("Noisy", model)
    assert isinstance(defence, SamplingModule)
    x = torch.rand(4, 1, 2, 2)
    one, other = (defence.sample(torch.Generator().manual_seed(seed), 4) for seed in (1, 2))
    assert torch.equal(defence.logits(x, one), defence.logits(x, one))
    assert not torch.equal(defence.logits(x, one), defence.logits(x, other))


def test_the_global_generators_are_put_back_even_after_an_error(folder, model):
    defence = build("Noisy", model)

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    defence.logits(torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)), 5)
    with pytest.raises(RuntimeError):
        defence.logits(torch.zeros(4, 1, 3, 3), 5)
    assert states() == before


def test_weights_that_a_plugin_draws_are_the_same_every_time(folder, model):
    before = torch.get_rng_state()
    assert torch.equal(build("Weights", model).module.weight, build("Weights", model).module.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_three_generators_follow_the_draw(folder, model):
    defence, x = build("Noisy", nn.Flatten()), torch.zeros(1, 1, 1, 2)
    one, other = defence.logits(x, 3)[0], defence.logits(x, 4)[0]
    random.seed(1), np.random.seed(1)
    assert torch.equal(one, defence.logits(x, 3)[0])
    assert not torch.equal(one, other)


def test_undeclared_is_the_worst_until_settled(folder, model):
    defence = build("Noisy", model)
    assert (defence.randomised, defence.batch_dependent) == (True, True)
    assert defence.name == "own_defences.Noisy"
    defence.settle(randomised=True, batch_dependent=False)
    assert (defence.randomised, defence.batch_dependent) == (True, False)


@pytest.mark.parametrize("name", ["Noisy", "in_a_closure", "own_network"])
def test_the_checkpoint_is_the_base_wherever_a_defence_holds_it(folder, model, name):
    """A function that only calls it would gain over nothing, and do so with a positive verdict."""
    assert build(name, model).base is model


def test_declarations_of_a_module_are_believed_and_not_settled_over(folder, model):
    defence = build("Declared", model)
    defence.settle(randomised=False, batch_dependent=True)
    assert (defence.name, defence.randomised, defence.batch_dependent) == ("declared", True, False)
    assert defence.base is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("robustbench_no_such:build", "it must be installed or lie in the current folder"),
        ("half_written:build", "install robustbench_no_such_module, which it needs"),
        ("syntax_broken:build", "syntax_broken raised SyntaxError"),
        ("own_defences:Wole", "has no function Wole"),
        ("own_defences:not_a_function", "has no function not_a_function"),
        ("own_defences:fails", "it raised ValueError: no luck"),
        ("own_defences:leaves", "it raised SystemExit"),
        (
            "own_defences:number",
            "returned int, which lacks name, randomised, batch_dependent, base, sample(generator, k)",
        ),
        ("own_defences:NoBase", "which lacks base; see docs"),
        (
            "own_defences:Slash",
            "whose 'name' is 'noise 8/255', which no table can show: take a printable one",
        ),
        ("own_defences:WrongTypes", "whose 'name' is int, not str; whose 'randomised' is str, not bool"),
        (
            "own_defences:WrongMethods",
            "which lacks sample(generator, k); whose logits does not take (x, draw)",
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said_in_one_line(folder, model, target, message):
    with pytest.raises(InputError) as refusal:
        build_defence(target, model, 4)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("images", [0, -3])
def test_a_batch_that_costs_nothing_is_refused(images):
    class Free:
        name = "free"

        def images(self, k):
            return images

    with pytest.raises(InputError, match=rf"free: images\(8\) is {images}; costs are counted in it"):
        images_of(Free(), 8)
