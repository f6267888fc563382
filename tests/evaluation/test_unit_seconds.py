"""Forecast seconds of a unit. Seconds are planted: nothing here is timed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.session.evaluate import made_ready
from robustbench_coded.session.evaluation import make_plan
from robustbench_coded.session.forecast import Seconds

K, DRAWS = 8, 6  # scoring and selection draws
# Seconds: of a gradient for an image, of an answer, and for a batch as it was probed.
MODEL, ANSWER, DEFENCE = 1.0, 0.6, 48.0
RATES = {"gradient: mean": MODEL, "answer: mean": ANSWER, "gradient of the network: mean": MODEL}
PROBED = ("answer", "gradient")


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


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The evaluation, and its units by defence and attack."""
    x, y = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    defences = {"many": Many, "counted": Counted}
    brought = InMemory(dataset_in_memory((x, y), name="rows", source="a test"), {"mean": Mean()}, defences)
    config = EvalConfig(
        checkpoints=(), batch_sizes=(K,), eps=(0.1,), attacks=("pgd-5", "transfer-pgd-5"), draws=4,
        selection_draws=2, threads=1, out=tmp_path_factory.mktemp("seconds") / "run",
    )  # fmt: skip
    prepared, _ = made_ready(config, brought)
    units = {}
    for unit in make_plan(prepared).units:
        units.setdefault((unit.case.subject.label, unit.case.attack), []).append(unit)
    return prepared, units


@pytest.fixture
def seconds(planned, monkeypatch):
    prepared, units = planned
    (probed,) = prepared.context.probe_seconds
    assert probed.label == "many"  # the others say what they forward
    monkeypatch.setitem(prepared.context.probe_seconds, probed, DEFENCE)
    planted = Seconds(prepared, RATES)
    found = {key: sum(map(planted.of, of)) for key, of in units.items()}
    assert set(planted.rates) - set(RATES) == {f"plugin {what}: mean behind many, K={K}" for what in PROBED}
    return found


def images(planned, *key):
    return sum(unit.images for unit in planned[1][key])


def test_a_defence_that_says_its_images_takes_as_long_as_the_model(planned, seconds):
    for defence, each in (("standard", 1), ("counted", 3)):
        scored = 2 * (each * K * (DRAWS if defence == "counted" else 1) // 3)  # two batches
        made = images(planned, defence, "pgd-5") - scored
        assert made == 2 * each * K * 5
        assert seconds[defence, "pgd-5"] == pytest.approx(made * MODEL + 3 * scored * ANSWER)
    assert images(planned, "counted", "clean") == 3 * images(planned, "many", "clean")


def test_what_is_only_made_again_is_not_scored(planned, seconds):
    prepared, units = planned
    again = [replace(unit, keep=True, scored=False) for unit in units["counted", "pgd-5"]]
    assert sum(map(Seconds(prepared, RATES).of, again)) == pytest.approx(2 * 3 * K * 5 * MODEL)


def test_any_other_takes_as_long_as_when_it_was_probed(planned, seconds):
    for attack in ("clean", "pgd-5"):
        assert seconds["many", attack] == images(planned, "many", attack) * DEFENCE / K


def test_an_attack_on_the_base_takes_the_models_time_and_its_scores_the_defences(planned, seconds):
    scored = 2 * (K * DRAWS // 3)  # two batches
    made = images(planned, "many", "transfer-pgd-5") - scored
    assert made == 2 * K * 5
    assert seconds["many", "transfer-pgd-5"] == scored * DEFENCE / K + made * MODEL
