"""A refuted claim leaves evidence that anybody can run without this project."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

OPTIONS = ("--limit", "64", "--batch-size", "32", "--draws", "4", "--quiet")


@pytest.fixture
def evidence(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    answer = csrobust(
        "eval", "--ckpt", digits_erm, *OPTIONS, "--rci", "N=1.5K", "--attacks", "pgd-3,transfer-pgd-10",
        "--claim", "60%", "--claim-attack", "pgd-3", "--out", run,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return run / "evidence"


def refute(folder):
    """Runs the script in isolation, where this project can't be imported."""
    alone = folder.parent.parent / "elsewhere"
    shutil.copytree(folder, alone)
    blocked = (
        "import sys; sys.modules['robustbench_coded'] = sys.modules['attacks'] = None; sys.argv = ['x']; "
    )
    code = blocked + f"import runpy; runpy.run_path({str(alone / 'refute.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)


def test_the_script_shows_the_refutation_by_itself(evidence):
    claim = json.loads((evidence / "claim.json").read_text())
    assert claim["claim"] == 0.6 and claim["interval"][1] < 0.6
    assert len((evidence / "refute.py").read_text().splitlines()) <= 200
    done = refute(evidence)
    assert done.returncode == 0, done.stderr
    assert "does not hold" in done.stdout
    # The same batches and draws as in the run, so the same figure.
    assert f"perturbed: {claim['measured']:.1%} of 256 answers" in done.stdout


def test_the_script_believes_the_claim_where_the_inputs_do_not_refute_it(evidence):
    with np.load(evidence / "inputs.npz") as file:
        arrays = dict(file)
    np.savez(evidence / "inputs.npz", **{**arrays, "perturbed": arrays["clean"]})
    done = refute(evidence)
    assert done.returncode == 1
    assert "do not refute" in done.stdout


def test_a_claim_that_holds_leaves_no_evidence(csrobust, digits_erm, tmp_path):
    run = tmp_path / "run"
    options = ("--rci", "N=1.5K", "--attacks", "fgsm", "--eps", "0.001", "--claim", "0.5", "--out", run)
    assert csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options).code == 0
    assert not (run / "evidence").exists()
