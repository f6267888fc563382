"""The same units by every engine: same outcomes, and the same failures."""

import time

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine import run
from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.run_unit import UnitFailure
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.user_code import TimeIsUp, until
from tests.run_folders import make_plan

ENGINES = [{}, {"workers": 2}]


def outcomes_of(config, before=lambda: None):
    """Outcomes by unit id; ``before`` is called after the probes."""
    prepared = prepare(config)
    units = make_plan(prepared).units
    before()
    with Engine(prepared.context) as engine:
        return {o.unit.id: o for o in engine.run(units)}, units


@pytest.fixture(scope="module")
def reference():
    return {}


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_outcomes_do_not_depend_on_the_workers(config, reference, engine):
    outcomes, units = outcomes_of(config(**engine))
    assert set(outcomes) == {unit.id for unit in units}
    for name, outcome in outcomes.items():
        first = reference.setdefault(name, outcome)
        assert outcome.rows.equals(first.rows)
        assert outcome.metadata == first.metadata
    assert len(reference) == len(units)


@pytest.mark.parametrize("engine", [{}, {"workers": 2}], ids=str)
@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        ("nan", "InvalidAnswer: expected finite logits", 1),
        ("shape", "InvalidAnswer: expected logits of shape", 1),
        ("raise", "ValueError: I would rather not really", 1),
        ("exit", "SystemExit: 3", 1),
    ],
)
def test_what_a_defence_does_wrong_is_a_failure(config, faulty, tmp_path, engine, fault, error, tries):
    chosen = config(defence=(faulty,), attacks=(), **engine)
    outcomes, units = outcomes_of(chosen, before=lambda: (tmp_path / "fault").write_text(fault))
    for unit in units:
        outcome = outcomes[unit.id]
        if unit.case.subject.spec == "standard":
            assert not isinstance(outcome, UnitFailure)
        else:
            assert outcome.error.startswith(error) and outcome.attempts == tries


@pytest.mark.parametrize(("engine", "tries"), [({}, 1), ({"workers": 1}, 2)], ids=str)
def test_a_defence_that_hangs_is_a_failure(config, faulty, tmp_path, engine, tries, monkeypatch):
    """Only what hangs runs here, so that no busy machine is taken for a hanging defence."""
    chosen = config(defence=(faulty,), attacks=(), standard=False, **engine)
    monkeypatch.setattr(run, "UNIT_SECONDS", 1.0)
    outcomes, units = outcomes_of(chosen, before=lambda: (tmp_path / "fault").write_text("hang"))
    assert len(outcomes) == len(units) > 0
    for outcome in outcomes.values():
        assert outcome.error == "took longer than 1 s, as what hangs does" and outcome.attempts == tries


@pytest.mark.parametrize("engine", [{}, {"workers": 1}], ids=str)
def test_a_unit_that_runs_when_the_time_is_up_is_dropped(config, faulty, tmp_path, engine):
    prepared = prepare(config(defence=(faulty,), attacks=(), standard=False, **engine))
    units = make_plan(prepared).units
    (tmp_path / "fault").write_text("hang")
    with Engine(prepared.context) as ours, until(time.monotonic() + 0.5), pytest.raises(TimeIsUp):
        list(ours.run(units))


def test_time_that_is_up_while_a_defence_is_probed_is_said_and_nothing_is_written(config, faulty, tmp_path):
    (tmp_path / "fault").write_text("hang")
    chosen = config(defence=(faulty,), time=2.0, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"--time 2s is over before every defence was probed"):
        evaluate(chosen)
    assert not (tmp_path / "run").exists()


def test_a_defence_that_kills_its_worker_is_a_failure(config, faulty, tmp_path):
    chosen = config(defence=(faulty,), attacks=(), workers=2)
    outcomes, units = outcomes_of(chosen, before=lambda: (tmp_path / "fault").write_text("die"))
    for unit in units:
        outcome = outcomes[unit.id]
        assert isinstance(outcome, UnitFailure) == (unit.case.subject.spec != "standard")
        if isinstance(outcome, UnitFailure):
            assert outcome.error.startswith("its worker died: killed (signal 9)") and outcome.attempts == 2


@pytest.mark.parametrize(("fault", "engine"), [("die once", {"workers": 1}), ("stall once", {})])
def test_what_passes_leaves_no_trace(config, faulty, tmp_path, fault, engine):
    chosen = config(defence=(faulty,), attacks=("pgd-2",), standard=False, **engine)
    expected, _ = outcomes_of(chosen)
    outcomes, _ = outcomes_of(chosen, before=lambda: (tmp_path / "fault").write_text(fault))
    assert not (tmp_path / "fault").exists()
    for name, outcome in outcomes.items():
        assert outcome.rows.equals(expected[name].rows)
