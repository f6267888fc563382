"""Commands around an evaluation that does not come to its end: one line, never a traceback."""

import json

import pytest

from robustbench_coded.evaluation.session import driver

pytestmark = pytest.mark.long

SMALL = ("--limit", "16", "--batch-size", "8", "--draws", "2", "--rci", "N=12")
COMMANDS = {
    "screen": ("screen", *SMALL),
    "several eps": ("eval", "--eps", "0.1,0.3", "--attacks", "fgsm", *SMALL),
}


@pytest.fixture(params=COMMANDS.values(), ids=COMMANDS)
def command(request, digits_erm, tmp_path):
    return (*request.param, "--ckpt", digits_erm, "--out", tmp_path / "run")


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def test_an_interrupted_run_says_how_to_go_on(csrobust, command, monkeypatch):
    monkeypatch.setattr(driver, "run_plan", interrupted)
    answer = csrobust(*command)
    assert answer.code == 130
    assert "resume with: csrobust" in answer.err and "Traceback" not in answer.err


def test_a_defence_that_was_typed_by_mistake_leaves_no_rows(csrobust, digits_erm, tmp_path, monkeypatch):
    run, attack = tmp_path / "run", ("--attacks", "fgsm", "--no-standard", "--quiet")
    options = ("--ckpt", digits_erm, *SMALL[:-2], *attack, "--out", run)

    def defences():
        manifest = json.loads((run / "run.json").read_text())
        return {record["case"]["subject"]["n"] for record in manifest["cases"]}, manifest["probes"]

    with monkeypatch.context() as patch:
        patch.setattr(driver, "run_plan", interrupted)
        assert csrobust("eval", *options, "--rci", "N=19").code == 130
        assert defences()[0] == {19}
        assert csrobust("eval", *options, "--rci", "N=12").code == 130
    rows, probes = defences()
    assert rows == {12} and [probe["subject"]["n"] for probe in probes] == [12]
    assert csrobust("eval", *options, "--rci", "N=12").code == 0
    assert csrobust("eval", *options, "--rci", "N=16").code == 0
    assert defences()[0] == {12, 16}  # what has outcomes stays
    assert "N = 19" not in (run / "report.md").read_text()


def test_units_that_fail_are_named_in_one_line(csrobust, command, monkeypatch):
    from robustbench_coded.evaluation.execution import run_unit

    real = run_unit.run_unit

    def failing(context, unit, tally):
        if unit.case.attack not in ("clean", "random-sign"):
            raise RuntimeError("it broke")
        real(context, unit, tally)

    monkeypatch.setattr(run_unit, "run_unit", failing)
    answer = csrobust(*command)
    assert answer.code == 1
    assert "units failed" in answer.err and "it broke" in answer.err
    assert "Traceback" not in answer.err
