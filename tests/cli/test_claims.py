"""A refuted claim leaves evidence that anybody can run without this project."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.evidence import bundle
from robustbench_coded.results.run import load_run

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
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)


def test_the_script_shows_the_refutation_by_itself(refuted):
    evidence = refuted / "evidence"
    claim = json.loads((evidence / "claim.json").read_text())
    assert claim["claim"] == 0.6 and claim["interval"][1] < 0.6
    assert len((evidence / "refute.py").read_text().splitlines()) <= 200
    report = (evidence.parent / "report.md").read_text()
    assert "evidence/refute.py reproduces this with torch" in report
    row = next(
        row for row in load_run(evidence.parent).rows if row.attack == "pgd-3" and row.case.subject.n == 48
    )
    opening = report.splitlines()[2]
    asked = "Does RCI on digits-erm keep the claimed 60.0% under pgd-3 at eps 0.3? "
    assert opening.startswith(f"{asked}**No: the claim is refuted.** ")
    assert f"pgd-3 alone leaves {100 * row.accuracy:.1f}%. Decided by transfer-pgd-10." in opening
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
    for said in (answer.out, (run / "report.md").read_text(), (run / "report.html").read_text()):
        said = " ".join(said.split())
        assert "keep the claimed 50.0% under pgd-2 at eps 0.001?" in said
        assert re.search(r"Not settled: \d+ checks did not pass\.", said)


def test_an_unknown_attack_of_a_claim_is_refused(csrobust, digits_erm):
    options = ("--claim", "0.5", "--claim-attack", "pdg-10")
    answer = csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options)
    assert answer.code == 2 and "--claim-attack: " in answer.err and "pgd-10" in answer.err


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


def test_a_claim_may_be_refuted_by_the_clean_inputs(csrobust, digits_erm, tmp_path, monkeypatch):
    monkeypatch.setattr(
        bundle, "_strongest", lambda run, judgement, plan: next(c for c in plan.rows if c.attack == "clean")
    )
    options = ("--attacks", "pgd-10", "--claim", "1.0", "--limit", "640")
    claim, _ = _claimed(csrobust, digits_erm, tmp_path / "run", *options)
    assert (claim["attack"], claim["eps"]) == ("clean", 0.0)
    with np.load(tmp_path / "run" / "evidence" / "inputs.npz") as file:
        assert (file["clean"] == file["perturbed"]).all()


def test_an_attack_of_an_attacker_who_knows_less_is_found(csrobust, digits_erm, tmp_path):
    found = []
    real = bundle._strongest

    def spy(run, judgement, plan):
        found.extend((j.threat, real(run, j, plan)) for j in run.judgements)
        return real(run, judgement, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "_strongest", spy)
        _claimed(
            csrobust, digits_erm, tmp_path / "run", "--rci", "N=1.5K", "--claim", "0.6",
            "--attacks", "transfer-pgd-10,aware-pgd-1@0.0000001",
        )  # fmt: skip
    known = [case for threat, case in found if str(threat) == "batch/known"]
    assert [(case.attack, str(case.threat)) for case in known] == [("transfer-pgd-10", "batch/unknown")]
