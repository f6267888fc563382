"""A refuted claim leaves evidence that anybody can run without this project."""

import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.judge.run import load_run

pytestmark = pytest.mark.long

OPTIONS = ("--limit", "320", "--batch-size", "32", "--draws", "4", "--quiet")


@pytest.fixture(scope="module")
def refuted(digits_erm, tmp_path_factory):
    """A run that refutes its claim; tests change copies of it."""
    run = tmp_path_factory.mktemp("claims") / "run"
    arguments = (
        "eval", "--ckpt", digits_erm, *OPTIONS, "--rci", "N=1.5K", "--attacks", "pgd-3,transfer-pgd-10",
        "--claim", "60%", "--claim-attack", "pgd-3", "--out", run,
    )  # fmt: skip
    assert main([str(argument) for argument in arguments]) == 0
    return run


@pytest.fixture
def refute(capsys, monkeypatch):
    """Runs a script in this process without this project: its exit code and what it printed."""

    def run(folder):
        monkeypatch.setitem(sys.modules, "robustbench_coded", None)
        monkeypatch.setitem(sys.modules, "attacks", None)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(folder / "refute.py"), run_name="__main__")
        return ended.value.code, capsys.readouterr().out

    return run


def refute_alone(folder):
    """Runs the script in isolation, outside the run folder, where this project can't be imported."""
    alone = folder.parent.parent / "elsewhere"
    shutil.copytree(folder, alone)
    blocked = (
        "import sys; sys.modules['robustbench_coded'] = sys.modules['attacks'] = None; sys.argv = ['x']; "
    )
    code = blocked + f"import runpy; runpy.run_path({str(alone / 'refute.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=1200)


def test_the_script_shows_the_refutation_by_itself(refuted):
    evidence = refuted / "evidence"
    claim = json.loads((evidence / "claim.json").read_text())
    assert claim["claim"] == 0.6 and claim["interval"][1] < 0.6
    assert "extras/evidence/refute.py" in (evidence.parent / "report.md").read_text()
    done = refute_alone(evidence)
    assert done.returncode == 0, done.stderr
    assert "does not hold" in done.stdout
    # The same batches and draws as in the run, so the same figure.
    assert f"perturbed: {claim['measured']:.1%} of 1024 answers" in done.stdout


def test_the_script_believes_the_claim_where_the_inputs_do_not_refute_it(refuted, refute, tmp_path):
    evidence = tmp_path / "evidence"
    shutil.copytree(refuted / "evidence", evidence)
    with np.load(evidence / "inputs.npz") as file:
        arrays = dict(file)
    np.savez(evidence / "inputs.npz", **{**arrays, "perturbed": arrays["clean"]})
    code, said = refute(evidence)
    assert code == 1 and "do not refute" in said


def test_a_claim_that_holds_leaves_no_evidence(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    options = ("--rci", "N=1.5K", "--attacks", "fgsm", "--eps", "0.001", "--claim", "0.5", "--out", run)
    answer = csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options, "--claim-attack", "pgd-2")
    assert answer.code == 0
    assert not (run / "evidence").exists()
    assert "refute.py" not in (run / "report.md").read_text()
    # The attack of the claim runs although --attacks does not name it; checks that did not run leave it open.
    verdicts = pd.read_csv(run / "verdicts.csv").query("defence == 'rci'")
    assert set(verdicts.verdict) == {"not settled"}
    assert "pgd-2" in set(pd.read_csv(run / "summary.csv").attack)


def _claimed(csrobust, digits_erm, run, *options):
    answer = csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options, "--out", run)
    assert answer.code == 0, answer.err
    return json.loads((run / "evidence" / "claim.json").read_text()), load_run(run)


def test_the_evidence_is_about_the_eps_that_refutes_the_claim(csrobust, digits_erm, tmp_path):
    options = ("--rci", "N=1.5K", "--attacks", "transfer-pgd-10", "--eps", "0.01,0.3", "--claim", "0.6")
    claim, run = _claimed(csrobust, digits_erm, tmp_path / "run", *options)
    row = next(
        row
        for row in run.rows
        if (row.subject.defence, row.attack, row.case.perturbation.eps) == ("rci", "transfer-pgd-10", 0.3)
    )
    assert claim["eps"] == 0.3
    assert claim["measured"] == pytest.approx(row.accuracy, abs=1e-6)
    assert run.rows[0].accuracy > 0.9  # at the smaller eps nothing is refuted


def test_a_claim_about_something_else_is_not_refuted(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    options = ("--rci", "N=1.5K", "--attacks", "transfer-pgd-10", "--eps", "0.01,0.3", "--claim", "0.6")
    for about in (("--claim-eps", "0.01"), ("--claim-threat", "batch/known")):
        assert csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options, *about, "--out", run).code == 0
        assert "claim refuted" not in (run / "verdicts.csv").read_text()
        assert not (run / "evidence").exists()


def test_a_claim_may_be_refuted_by_random_signs(csrobust, digits_erm, tmp_path, refute):
    # A step of no length from the clean input: weaker than the signs at the ball's corners.
    options = ("--attacks", "fgsm@0.0000001", "--eps", "0.5", "--claim", "0.9")
    claim, run = _claimed(csrobust, digits_erm, tmp_path / "run", *options)
    signs = next(row for row in run.rows if row.attack == "random-sign")
    assert claim["attack"] == "random-sign"
    assert claim["measured"] == pytest.approx(signs.accuracy, abs=1e-6)
    assert refute(tmp_path / "run" / "evidence")[0] == 0


def test_an_attack_of_an_attacker_who_knows_less_is_found(csrobust, digits_erm, tmp_path):
    options = ("--attacks", "transfer-pgd-10,aware-pgd-1@0.0000001", "--claim-threat", "batch/known")
    claim, _ = _claimed(csrobust, digits_erm, tmp_path / "run", "--rci", "N=1.5K", "--claim", "0.6", *options)
    assert claim["attack"] == "transfer-pgd-10"
