"""Forecast seconds of a unit. Seconds are planted: nothing here is timed."""

import pytest
import torch
from torch import nn

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluation import make_plan
from robustbench_coded.evaluation.session.rates import Rates
from robustbench_coded.evaluation.setup.prepare import made_ready

K = 8
MODEL, DEFENCE = 1.0, 48.0  # seconds of an image through the network, and of a batch as it was probed


class Mean(nn.Module):
    def forward(self, x):
        score = 8 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


class Many:
    """Asks the network as often as it likes."""

    name, randomised, batch_dependent = "many", True, False

    def __init__(self, model):
        self.base = self.model = model

    def sample(self, generator, k):
        return torch.rand((), generator=generator) * 1e-3

    def logits(self, x, draw):
        return self.model(x + draw)


class Counted(Many):
    """And says how often."""

    name = "counted"

    def images(self, k):
        return 3 * k


@pytest.mark.parametrize(
    ("defence", "attack", "each"),
    [
        ("standard", "pgd-5", MODEL),
        ("counted", "pgd-5", MODEL),  # it says its images, and takes as long as they take the model
        ("many", "pgd-5", DEFENCE / K),
        ("many", "clean", DEFENCE / K),
        ("many", "transfer-pgd-5", MODEL),
    ],
)
def test_a_unit_takes_its_images_times_the_seconds_of_one(tmp_path, monkeypatch, defence, attack, each):
    x, y = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    defences = {"many": Many, "counted": Counted}
    brought = InMemory(dataset_in_memory((x, y), name="rows", source="a test"), {"mean": Mean()}, defences)
    config = EvalConfig(
        checkpoints=(), batch_size=(K,), eps=(0.1,), attacks=("pgd-5", "transfer-pgd-5"), draws=4,
        selection_draws=2, threads=1, out=tmp_path / "run",
    )  # fmt: skip
    prepared, _ = made_ready(config, brought)
    for subject in prepared.context.probe_seconds:
        monkeypatch.setitem(prepared.context.probe_seconds, subject, DEFENCE)
    monkeypatch.setattr(Rates, "_time", lambda *args: MODEL)
    rates, units = Rates(prepared), make_plan(prepared).units
    own = [u for u in units if (u.case.subject.label, u.case.attack) == (defence, attack)]
    costs = [(unit.case, unit.images) for unit in own]
    assert costs and all(rates.seconds([cost]) == pytest.approx(cost[1] * each) for cost in costs)
