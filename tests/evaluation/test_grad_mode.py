"""Every public call has gradients, whatever mode its caller is in, and gives back no graph."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import robustbench_coded
from robustbench_coded import api, attack, evaluate

MODES = [torch.no_grad, torch.inference_mode]


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 1, 8, 8, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(4, 64, generator=generator))
    return model.eval(), x, model(x).argmax(-1)


def test_what_is_public_can_be_imported_from_the_package():
    assert sorted(api.__all__) == sorted(robustbench_coded.PUBLIC)
    assert all(getattr(robustbench_coded, name) is getattr(api, name) for name in api.__all__)


@pytest.mark.parametrize("name", ["pgd-5", "relaxed-pgd-5", "apgd-mt-5"])
@pytest.mark.parametrize("mode", MODES)
def test_an_attack_is_the_same_under_any_mode(problem, mode, name):
    model, x, y = problem
    usual = attack(model, x, y, name, eps=0.1, seed=0)
    with mode():
        assert torch.equal(attack(model, x + 0, y, name, eps=0.1, seed=0), usual)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert not torch.equal(usual, x)


def test_the_images_of_a_caller_who_asks_for_their_gradient_come_back_without_a_graph(problem):
    model, x, y = problem
    asked = x.clone().requires_grad_()
    perturbed = attack(model, asked, y, "pgd-5", eps=0.1, seed=0)
    assert not perturbed.requires_grad and asked.grad is None
    assert torch.equal(perturbed, attack(model, x, y, "pgd-5", eps=0.1, seed=0))
    assert not attack(model, asked, y, "square-20", eps=0.1, seed=0).requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_an_evaluation_has_the_same_figures_under_any_mode(problem, mode, tmp_path):
    model, x, y = problem
    options = {"attacks": "pgd-5", "eps": 0.1, "threads": 1}
    usual = evaluate(model, (x, y), out=tmp_path / "usual", **options).summary
    with mode():
        found = evaluate(model, (x + 0, y), out=tmp_path / "mode", **options).summary
    np.testing.assert_array_equal(found.accuracy, usual.accuracy)
    assert usual.set_index("attack").accuracy["pgd-5"] < 0.5


BASE = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
OUTER = [torch.no_grad, torch.inference_mode, nullcontext]
CALLS = {
    "attack": lambda model, x, y, out: attack(model, x, y, "pgd-3", eps=0.1, seed=0),
    "attack a function": lambda model, x, y, out: attack(
        lambda x: model(x), x, y, "relaxed-pgd-3", eps=0.1, seed=0
    ),
    "evaluate": lambda model, x, y, out: evaluate(model, (x, y), out=out, **QUICK),
    "evaluate a defence": lambda model, x, y, out: evaluate(
        BASE, (x, y), defences={"theirs": lambda base: model}, out=out, **QUICK
    ),
    "assert": lambda model, x, y, out: api.assert_accuracy_under_attack(
        model, (x, y), at_least=0.0, limit=32, **{**QUICK, "eps": 0.5}, out=out
    ),
}
QUICK = {"attacks": "pgd-3", "eps": 0.1, "threads": 1}


def noted(module: nn.Module) -> tuple:
    return module.training, *(len(getattr(module, f"_{kind}_hooks")) for kind in ("forward", "backward"))


def state_of(model: nn.Module) -> list:
    """Everything about a caller's process that a call could change, as bytes and numbers."""
    tensors = [*model.buffers(), *model.parameters(), *(w.grad for w in model.parameters())]
    return [
        [None if tensor is None else (id(tensor), tensor.detach().numpy().tobytes()) for tensor in tensors],
        [weight.requires_grad for weight in model.parameters()],
        [noted(module) for module in model.modules()],
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_num_threads(),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    ]


@pytest.mark.filterwarnings("ignore:in training mode within")
@pytest.mark.parametrize("mode", OUTER, ids=["no_grad", "inference", "none"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_leaves_everything_of_its_caller_bit_for_bit(problem, call, mode, tmp_path):
    _, x, y = problem
    torch.manual_seed(0)
    model = Changing()
    model.norm.train()
    model.linear.weight.grad = torch.ones_like(model.linear.weight)
    model.linear.bias.requires_grad_(False)
    before_x = x.clone()
    with mode():
        before = state_of(model)
        call(model, x, y, tmp_path / "run")
        after = state_of(model)
    assert after == before
    assert torch.equal(x, before_x) and x.grad is None


def test_a_warning_points_at_the_line_of_the_caller(problem):
    _, x, y = problem
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 4)).eval()
    model[1].train()
    with pytest.warns(UserWarning, match="in training mode within") as caught:
        attack(model, x, y, "fgsm", 0.1)
    assert {warning.filename for warning in caught if "in training mode" in str(warning.message)} == {
        __file__
    }


class Changing(nn.Module):
    """A network that changes itself and the process whenever it is asked."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(1), nn.Linear(64, 4)
        self.register_buffer("asked", torch.zeros(1))
        self.norm.register_forward_hook(lambda *given: None)
        self.threads = torch.get_num_threads()
        self.eval()

    def forward(self, x):
        self.asked += 1
        torch.rand(1), random.random(), np.random.rand()
        self.linear.bias.requires_grad_(True)
        self.linear.register_forward_hook(lambda *given: None)
        self.linear.training = True
        torch.set_num_threads(1 + self.threads)
        if self.linear.weight.grad is not None:
            self.linear.weight.grad.add_(1)
        return self.linear(self.norm(x).flatten(1))


def test_a_part_in_training_mode_is_named(problem):
    _, x, y = problem
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4)).eval()
    model[0].train()
    with pytest.warns(UserWarning, match=r"0 \(BatchNorm2d\); call eval"):
        attack(model, x, y, "pgd-1", eps=0.1, seed=0)
