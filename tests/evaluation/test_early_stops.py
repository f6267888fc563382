"""The forecast of attacks that end at the first wrong answer."""

import pytest
import torch
from torch import nn

from robustbench_coded.data.in_memory import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.second_stage import in_two_stages
from robustbench_coded.session import early_stops
from robustbench_coded.session.early_stops import FALLS_AFTER, fallen, likely_shares
from robustbench_coded.session.evaluate import made_ready
from robustbench_coded.session.forecast import forecast
from robustbench_coded.session.further_waves import further_units, likely_spared
from robustbench_coded.session.plans import make_plan, unit_maker

STEPS = 40


class Mean(nn.Module):
    def forward(self, x):
        score = 8 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


@pytest.fixture
def planned(tmp_path):
    def plan(**options):
        y = torch.arange(16) % 2
        # Half of the examples are ten times as far from the boundary.
        margin = torch.where(torch.arange(16) < 8, 0.04, 0.4)
        x = (0.5 + margin * (2 * y - 1).float())[:, None, None, None].expand(16, 1, 4, 4).clone()
        brought = InMemory(dataset_in_memory((x, y), name="rows", source="a test"), {"mean": Mean()}, {})
        options = {"attacks": (f"pgd-{STEPS}",), "eps": (0.1,), "defences": ("noise:sigma=0.01",)} | options
        config = EvalConfig(checkpoints=(), batch_sizes=(8,), threads=1, out=tmp_path / "run", **options)
        config, prepared, _ = made_ready(config, brought)
        return prepared, make_plan(config, prepared)

    return plan


def test_what_falls_costs_a_few_queries_and_what_stands_all_of_them(planned):
    prepared, plan = planned()
    ((row, share),) = likely_shares(prepared, plan.rows).items()
    assert (row.subject.label, row.attack) == ("standard", f"pgd-{STEPS}")
    assert share == pytest.approx(0.5 + 0.5 * FALLS_AFTER / STEPS)
    expected = forecast(prepared, plan, plan.units)
    likely = {unit: expected.likely(unit) / expected.of(unit) for unit in plan.units if unit.row == row}
    assert all(value == pytest.approx(share) for value in likely.values()) and likely
    assert expected.seconds == pytest.approx(sum(map(expected.likely, plan.units)))


@pytest.mark.parametrize("options", [{"drop": False}, {"attacks": ("fgsm",)}, {"eps": (0.0,)}])
def test_attacks_that_do_not_stop_early_cost_what_they_say(planned, options):
    prepared, plan = planned(**options)
    assert all(share == 1.0 for share in likely_shares(prepared, plan.rows).values())


def test_what_is_likely_to_follow_is_what_stands_and_random_batches_for_what_fell(planned):
    attacks = {"attacks": ("pgd-40", "transfer-pgd-5", "apgd-mt-4"), "second_attacks": ("apgd-mt-4",)}
    wanted = {"defences": ("rci:N=1.5K",), **attacks}
    for eps, stands in ((0.1, True), (0.5, False)):
        prepared, plan = planned(eps=(eps,), **wanted)
        config = prepared.setup.config
        first, waiting = in_two_stages(config, plan.rows)
        assert {row.attack for row in waiting} == {"apgd-mt-4"} and len(waiting) == 2
        assert (likely_spared(prepared, waiting) == set()) == stands
        maker = unit_maker(config, prepared)
        later = further_units(prepared, first, waiting, maker, {})
        if stands:
            assert {unit.row for unit in later} == set(waiting)
        else:
            assert {unit.row.attack for unit in later} == {"transfer-pgd-5"}
            assert all(unit.partitions for unit in later)
            pending = plan.units
            seconds = [forecast(prepared, plan, pending, spared=some).seconds for some in ((), waiting)]
            assert seconds[1] < seconds[0]
        assert further_units(prepared, first, waiting, maker, {unit.id: {} for unit in later}) == []
        done = {unit.id: {} for row in first for unit in maker.units(row)}
        assert further_units(prepared, first, waiting, maker, done) == []


OWN = """
class Own:
    name, randomised, batch_dependent = "own", False, False

    def __init__(self, base):
        self.base = base

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.base(x)
"""


def test_attacks_on_a_published_deterministic_defence_stop_early_too(planned):
    prepared, plan = planned(defences=("published:bit-depth",), eps=(0.5,))
    shares = {row.subject.label: share for row, share in likely_shares(prepared, plan.rows).items()}
    assert set(shares) == {"standard", "published:bit-depth"}
    assert shares["standard"] == pytest.approx(FALLS_AFTER / STEPS)
    # What is spared of a defence follows from standard inference alone.
    assert {checkpoint for checkpoint, _ in fallen(prepared, plan.rows)} == {"mean"}


def test_nothing_has_fallen_where_only_a_defence_keeps_nothing(planned, monkeypatch):
    prepared, plan = planned(defences=("published:bit-depth",), eps=(0.5,))
    monkeypatch.setattr(early_stops, "_standing", lambda _, row: float(row.subject.label == "standard"))
    assert fallen(prepared, plan.rows) == set()


def test_code_of_the_user_is_not_attacked_before_a_worker_does(planned, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)  # it might never answer, and only workers have a time limit
    prepared, plan = planned(defences=(f"{tmp_path}/own.py:Own",), eps=(0.5,))
    asked = []
    monkeypatch.setattr(
        early_stops, "_standing", lambda prepared, row: asked.append(row.subject.label) or 1.0
    )
    assert {row.subject.label for row in likely_shares(prepared, plan.rows)} == {"standard"}
    assert asked == ["standard"]
