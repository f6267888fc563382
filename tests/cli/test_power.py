"""Planted weaknesses: where they are, what gradients show of them, and what is reported."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.defences.inferences import GaussianNoise, Standard
from robustbench_coded.extras.power import measure
from robustbench_coded.extras.power.measure import WEAKNESSES, PlantedWeakness
from robustbench_coded.reports.write import write_reports

ROOT = Path(__file__).parents[2]
BY_NAME = {weakness.name: weakness for weakness in WEAKNESSES}


class Network(torch.nn.Module):
    """A linear network of 10 classes."""

    classes = 10

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 8 * 8, 10, bias=False)
        torch.nn.init.normal_(self.layer.weight, std=0.01, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return self.layer(x.flatten(1))


def planted(weakness, budget, images=6):
    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    defence = Standard(Network())
    with torch.no_grad():
        clean = defence.logits(x[:images], None)
    return PlantedWeakness(defence, weakness, x[:images], clean, budget), x, clean


BUDGETS = [
    PerturbationBudget("linf", 8 / 255),
    PerturbationBudget("l2", 0.5),
    PerturbationBudget("l1", 4.0),
    PerturbationBudget("l0", 4),
]


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.norm)
@pytest.mark.parametrize("weakness", WEAKNESSES, ids=lambda weakness: weakness.name)
def test_a_weakness_costs_its_images_their_answer_and_no_other_image_anything(weakness, budget):
    defence, x, clean = planted(weakness, budget)
    assert float(budget.around(defence.x[None]).distance(defence.known[None]).max()) <= 1 + 1e-5
    with torch.no_grad():
        before = Standard(Network()).logits(x, None)
        after = defence.logits(x, None) / weakness.scale
        known = defence.logits(defence.known, None)
    torch.testing.assert_close(after, before)
    assert (known.argmax(1) != clean.argmax(1)).all()


def gradient_of(name, way=0.0):
    """The gradient of the answer's margin that the weakness adds, at a part of the known way, along it."""
    weakness = BY_NAME[name]
    defence, x, clean = planted(weakness, BUDGETS[0])
    x = (defence.x + way * (defence.known - defence.x)).requires_grad_()
    logits = defence.logits(x, None) / weakness.scale - Network()(x)
    margin = logits.gather(1, clean.argmax(1)[:, None])[:, 0] - logits.gather(1, defence.other[:, None])[:, 0]
    if not margin.requires_grad:
        return torch.zeros(len(x))
    (gradient,) = torch.autograd.grad(margin.sum(), x, allow_unused=True, materialize_grads=True)
    return (gradient * (defence.known - defence.x)).flatten(1).sum(1)


def test_what_gradients_show_of_each_weakness():
    for name in ("plain", "saturated", "unlikely class"):
        assert (gradient_of(name) < -1e-3).all(), name
    for name in ("no gradient", "needle"):
        assert (gradient_of(name, 0.3).abs() < 1e-5).all(), name
    assert (gradient_of("loss barrier", 0.3) > 1e-3).all()  # away from it


def test_a_random_defence_stays_as_random_as_it_is():
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    defence = GaussianNoise(Network(), 0.1)
    with torch.no_grad():
        clean = Network()(x)
    weak = PlantedWeakness(defence, BY_NAME["plain"], x, clean, BUDGETS[0])
    assert weak.randomised and weak.base is defence.base
    first, second = (weak.sample(torch.Generator().manual_seed(seed), 4) for seed in (0, 1))
    assert not torch.equal(weak.logits(x, first), weak.logits(x, second))
    assert torch.equal(weak.logits(x, first), weak.logits(x, first))


@pytest.fixture
def control(tmp_path):
    """A run with `no failure found`."""
    shutil.copytree(ROOT / "reports" / "board-digits-control", tmp_path / "run")
    (tmp_path / "run" / "power.json").unlink()
    write_reports(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.long
def test_what_a_run_would_have_found_is_printed_stored_and_reported(csrobust, control, monkeypatch):
    chosen = (BY_NAME["plain"], BY_NAME["needle"])
    monkeypatch.setattr(measure, "WEAKNESSES", chosen)
    assert "csrobust power" in (control / "report.md").read_text()
    weights = f"pgd-at={ROOT / 'checkpoints' / 'digits-pgd-at.safetensors'}"
    answer = csrobust("power", control, "--ckpt", weights, "--images", 2, "--json", "--quiet")
    assert answer.code == 0
    (power,) = json.loads(answer.out)
    assert (power["images"], power["control"]) == (2, 0.0)
    assert {found["weakness"]: found["share"] for found in power["found"]} == {"plain": 1.0, "needle": 0.0}
    report = (control / "report.md").read_text()
    assert "1 of 2" in report and "csrobust power" not in report


def test_where_nothing_stands_there_is_nothing_to_plant(csrobust, tmp_path):
    shutil.copytree(ROOT / "reports" / "board-lwta", tmp_path / "run")
    answer = csrobust("power", tmp_path / "run")
    assert answer.code == 2 and "no failure found" in answer.err
