"""Commands around an evaluation that does not come to its end: one line, never a traceback."""

import pytest

from robustbench_coded.session import stages

pytestmark = pytest.mark.long

SMALL = ("--limit", "16", "--batch-size", "8", "--draws", "2", "--selection-draws", "2", "--rci", "N=12")
COMMANDS = {
    "screen": ("screen", "--victims", "2", *SMALL),
    "curve over submissions": ("curve", "--over", "submissions", "--attacks", "fgsm", *SMALL),
    "curve over steps": ("curve", "--over", "steps", *SMALL),
}


@pytest.fixture(params=COMMANDS.values(), ids=COMMANDS)
def command(request, digits_erm, tmp_path):
    return (*request.param, "--ckpt", digits_erm, "--out", tmp_path / "run")


def test_an_interrupted_run_says_how_to_go_on(csrobust, command, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "run_plan", interrupted)
    answer = csrobust(*command)
    assert answer.code == 130
    assert "resume with: csrobust" in answer.err and "Traceback" not in answer.err


def test_units_that_fail_are_named_in_one_line(csrobust, command, monkeypatch):
    from robustbench_coded.evaluation.execution import execute

    real = execute.run_unit

    def failing(context, unit, tally):
        if unit.row.attack not in ("clean", "random-sign"):
            raise RuntimeError("it broke")
        real(context, unit, tally)

    monkeypatch.setattr(execute, "run_unit", failing)
    answer = csrobust(*command)
    assert answer.code == 1
    assert "units failed, the first" in answer.err and "it broke" in answer.err
    assert "Traceback" not in answer.err


def test_a_batch_too_small_for_its_malicious_inputs_has_no_unit(csrobust, digits_erm, tmp_path):
    size = ("--limit", "5", "--batch-size", "8", "--last-batch", "shrink", "--rci", "N=12")
    draws = ("--draws", "2", "--selection-draws", "2", "--out", tmp_path / "run", "--quiet")
    attack = ("--attacks", "fgsm", "--inputs", "collateral-6")
    answer = csrobust("eval", "--ckpt", digits_erm, *size, *draws, *attack)
    assert answer.code == 0, answer.err
    assert "leaves no input to harm" in (tmp_path / "run" / "report.md").read_text()
