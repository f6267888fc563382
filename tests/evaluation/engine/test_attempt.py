"""Which errors of a unit are tried again, and how."""

import numpy as np
import pytest
import torch

from robustbench_coded.evaluation.engine import worker as module
from robustbench_coded.evaluation.engine.worker import attempt, is_out_of_memory, one_line
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.setup.prepare import prepare
from tests.run_folders import make_plan

pytestmark = pytest.mark.long


@pytest.fixture
def prepared(config):
    return prepare(config(defence=(), attacks=()))


@pytest.fixture
def unit(prepared, config):
    return make_plan(prepared).units[0]


@pytest.fixture
def tries(monkeypatch):
    """Lets ``execute`` raise these errors, one a try, then succeed; returns the group size of each try."""

    def plan(*errors):
        sizes = []

        def execute(context, unit):
            sizes.append(context.setup.group_images)
            if len(sizes) <= len(errors):
                raise errors[len(sizes) - 1]
            return UnitResult(unit, None, {"forwards": 3}, {})

        monkeypatch.setattr(module, "execute", execute)
        return sizes

    return plan


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RuntimeError("CUDA error: device-side assert"),
        RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"),
        SystemExit(2),
    ],
)
def test_what_would_come_back_is_not_tried_again(prepared, unit, tries, error):
    sizes = tries(error)
    outcome = attempt(prepared.context, unit)
    assert isinstance(outcome, UnitFailure) and outcome.attempts == 1 and len(sizes) == 1
    assert outcome.process_unusable == isinstance(error, RuntimeError)
    assert "raise errors" in outcome.details


def test_a_passing_error_is_tried_once_more(prepared, unit, tries):
    assert len(tries(OSError("stale"))) == 0
    assert isinstance(attempt(prepared.context, unit), UnitResult)
    tries(OSError("stale"), OSError("stale"))
    failure = attempt(prepared.context, unit)
    assert isinstance(failure, UnitFailure) and failure.attempts == 2


def test_what_fitted_is_remembered(prepared, unit, tries):
    sizes = tries(torch.OutOfMemoryError("full"))
    outcomes = [attempt(prepared.context, unit) for _ in range(2)]
    assert sizes == [512, 256, 256]
    assert all(outcome.metadata == {"forwards": 3, "group_images": 256} for outcome in outcomes)


def test_without_memory_forwards_halve_down_to_one_batch(prepared, unit, tries):
    sizes = tries(*[MemoryError()] * 20)
    outcome = attempt(prepared.context, unit)
    assert sizes == [512, 256, 128, 64, 32, 16, 8]  # K = 8
    assert isinstance(outcome, UnitFailure) and not outcome.process_unusable
    assert prepared.context.setup.group_images == 512


def test_smaller_forwards_are_recorded_and_say_the_same(config, faulty, tmp_path):
    chosen = config(defence=(faulty,), standard=False, attacks=("pgd-3",), limit=64)
    prepared = prepare(chosen)
    unit = make_plan(prepared).units[-1]
    whole = attempt(prepared.context, unit)
    (tmp_path / "fault").write_text("memory")
    pieces = attempt(prepared.context, unit)
    assert pieces.metadata == {**whole.metadata, "group_images": 16}
    assert pieces.unit == unit
    for column in ("example", "batch", "slot", "prediction"):
        np.testing.assert_array_equal(pieces.rows[column], whole.rows[column])
    np.testing.assert_allclose(pieces.rows["margin"], whole.rows["margin"], rtol=1e-4, atol=1e-4)


def test_an_error_becomes_one_printable_line():
    assert one_line(ValueError("two\nlines \x1b[31m")) == "ValueError: two lines ?[31m"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(one_line(ValueError("x" * 9999))) == module.MESSAGE_LENGTH


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"))
    assert not is_out_of_memory(RuntimeError("expected scalar type Float"))
