"""Every public call has gradients, whatever mode its caller is in, and gives back no graph."""

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
    assert not attack(model, asked, y, "surrogate-pgd-5", eps=0.1, seed=0).requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_an_evaluation_has_the_same_figures_under_any_mode(problem, mode, tmp_path):
    model, x, y = problem
    options = {"attacks": "pgd-5", "eps": 0.1, "threads": 1}
    usual = evaluate(model, (x, y), out=tmp_path / "usual", **options).summary
    with mode():
        found = evaluate(model, (x + 0, y), out=tmp_path / "mode", **options).summary
    np.testing.assert_array_equal(found.accuracy, usual.accuracy)
    assert usual.set_index("attack").accuracy["pgd-5"] < 0.5
