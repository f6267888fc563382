"""Attacks differentiate a prepared model; what a defence predicts is asked of the original alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustbench_coded.evaluation.execution import run_unit
from robustbench_coded.evaluation.execution import worker_context as workbench
from robustbench_coded.evaluation.execution.run_unit import execute
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup import prepare as setup
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.models import prepare as models_prepare
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.prepare import AttackCopy
from tests.run_folders import make_plan

pytestmark = pytest.mark.long

DIGITS = Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"


def options(**changes):
    fixed = EvalConfig(
        checkpoints=(("erm", str(DIGITS)),),
        data="digits",
        limit=64,
        batch_size=(16,),
        defence=("rci:N=24",),
        attacks=("pgd-10",),
        draws=2,
        selection_draws=1,
        threads=1,
    )
    return replace(fixed, **changes)


def executed(config):
    prepared = prepare(config)
    return [execute(prepared.context, unit) for unit in make_plan(prepared).units]


def margins(result):
    return result.rows.to_pandas().sort_values(["purpose", "draw", "example"]).margin.to_numpy()


def outcomes(config):
    """Margins by (defence, attack), in one order for all evaluations."""
    results = executed(config)
    return {(r.unit.case.subject.label, r.unit.case.attack): margins(r) for r in results}


def stopping(early, run, config):
    """The same with, or without, leaving broken examples alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_unit, "STOPS_EARLY", early)
        return run(config)


@pytest.fixture(scope="module")
def plain():
    return outcomes(options())


@pytest.fixture
def spoil(monkeypatch):
    """Exchanges the copy that attacks ask for what ``change(original, copy)`` makes of it."""

    def with_change(change):
        def spoilt(model, images, *, precision):
            used, info = right(model, images, precision=precision)
            return AttackCopy(change(model, used), info)

        right = workbench.prepare_model
        monkeypatch.setattr(workbench, "prepare_model", spoilt)

    return with_change


def test_a_short_type_moves_attacks_and_nothing_else(plain):
    rough = outcomes(options(attack_precision="bfloat16"))
    for label in ("standard", "rci"):
        for null in ("clean", "random-sign"):
            assert np.array_equal(rough[label, null], plain[label, null])
        assert not np.array_equal(rough[label, "pgd-10"], plain[label, "pgd-10"])
        assert (rough[label, "pgd-10"] > 0).mean() == pytest.approx(
            (plain[label, "pgd-10"] > 0).mean(), abs=0.1
        )


def test_a_useless_prepared_model_spoils_attacks_and_no_prediction(plain, spoil):
    def useless(_, used):
        used.network.linear.weight.zero_()
        return used

    spoil(useless)
    spoiled = outcomes(options())
    for label in ("standard", "rci"):
        assert np.array_equal(spoiled[label, "clean"], plain[label, "clean"])
        assert (spoiled[label, "pgd-10"] > 0).mean() > (plain[label, "pgd-10"] > 0).mean() + 0.2


def test_an_example_that_only_the_prepared_model_sees_broken_gets_all_its_steps(spoil):
    """With every prediction of the copy wrong, attacks drop all examples at once."""

    class Wrong(PixelModel):
        def forward(self, x):
            logits = super().forward(x)
            return logits + (logits.roll(1, dims=1) - logits).detach()

    def always_wrong(model, used):
        flat = (model.mean.flatten().tolist(), model.std.flatten().tolist())
        return Wrong(used.network, *flat, classes=10, arch="")

    spoil(always_wrong)
    dropped, kept = (stopping(drop, outcomes, options(defence=())) for drop in (True, False))
    stood = [found["standard", "pgd-10"] > 0 for found in (dropped, kept)]
    assert np.array_equal(*stood)
    assert stood[1].mean() < (kept["standard", "random-sign"] > 0).mean()


def test_a_search_goes_on_where_only_the_prepared_model_sees_an_example_broken(spoil):
    """The copy says class 0 to everything, so that attacks drop all other examples at their first point."""

    def biased(_, used):
        used.network.linear.bias.data[0] += 1000
        return used

    spoil(biased)
    first_point, dropped, kept = (
        stopping(drop, outcomes, options(defence=(), eps=(0.1,), attacks=(name,)))["standard", name] > 0
        for name, drop in (("square-1", False), ("square-200", True), ("square-200", False))
    )
    assert kept.mean() < first_point.mean() - 0.1
    assert dropped.mean() < first_point.mean() - 0.1


def test_the_precision_is_part_of_a_unit_and_of_the_checkpoint_s_facts():
    plans = {}
    for precision in ("float32", "bfloat16"):
        config = options(attack_precision=precision)
        prepared = prepare(config)
        plans[precision] = {unit.id for unit in make_plan(prepared).units}
        facts = prepared.setup.checkpoints[0].facts["gradients"]
        assert (facts["precision"], facts["prepared"], facts["folded"]) == (precision, True, 3)
    assert len(set.union(*plans.values())) == sum(map(len, plans.values()))


@pytest.mark.parametrize(
    ("precision", "fast", "said"), [("bfloat16", False, 1), ("bfloat16", True, 0), ("auto", False, 0)]
)
def test_a_processor_that_is_slow_in_bfloat16_is_named(precision, fast, said, monkeypatch):
    for asks in (setup, models_prepare):  # says so; decides what auto is
        monkeypatch.setattr(asks, "multiplies_bfloat16", lambda device: fast)
    notes = prepare(options(attack_precision=precision, defence=())).notes
    assert sum("no instructions for bfloat16" in note for note in notes) == said


DROPPING = ("pgd-20", "apgd-ce-20", "apgd-dlr-20", "apgd-t-5", "square-100", "random-100")


@pytest.fixture(scope="module")
def with_drop():
    """Results by attack, with and without leaving broken examples alone."""
    changes = {"defence": (), "attacks": DROPPING, "eps": (0.1,), "first": True}
    return [
        {result.unit.case.attack: result for result in stopping(drop, executed, options(**changes))}
        for drop in (True, False)
    ]


@pytest.mark.parametrize("attack", DROPPING)
def test_dropping_saves_images_and_changes_no_outcome(with_drop, attack):
    dropped, whole = (results[attack] for results in with_drop)
    stood = margins(whole) > 0
    assert 0 < stood.mean() < 1 and ((margins(dropped) > 0) == stood).all()
    costs = [sum(r.metadata.get(count, 0) for count in ("forwards", "backwards")) for r in (dropped, whole)]
    assert costs[0] < costs[1]
