"""``--certify``: lower bounds beside the attacks, never among them, and a contradiction fails the run."""

import json
import shutil

import pandas as pd
import pytest
import torch

from robustbench_coded.evaluation.session import certifying
from robustbench_coded.extras.certification.certifier import Smoothing, StandardCertifier

pytestmark = pytest.mark.long

SMALL = (
    "eval", "--data", "digits", "--limit", "8", "--batch-size", "4", "--threads", "1", "--draws", "2",
    "--selection-draws", "2", "--attacks", "pgd-10,aware-pgd-10", "--eps", "0.05", "--quiet",
)  # fmt: skip
DEFENDED = ("--rci", "N=6", "--defence", "noise:sigma=0.1", "--defence", "resize-pad:scale=0.8")


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_erm):
    from robustbench_coded.cli.main import main

    out = tmp_path_factory.mktemp("certify") / "run"
    plain = out.with_name("plain")
    robust = digits_erm.with_name("digits-pgd-at.safetensors")
    arguments = (*SMALL, "--ckpt", f"net={robust}", *DEFENDED)
    assert main([*arguments, "--out", str(plain)]) == 0
    shutil.copytree(plain, out)
    assert main([*arguments, "--certify", "--out", str(out)]) == 0  # it goes on with the same run
    return out


def test_a_row_for_every_ensemble(run):
    table = pd.read_csv(run / "certified.csv")
    summary = pd.read_csv(run / "summary.csv").query("attack == 'ensemble'")
    assert len(table) == len(summary)
    table = table.set_index(["defence", "threat"])
    standard = table.loc[("standard", "batch/unknown")]
    assert 0.3 < standard.certified <= standard.ensemble_ci_high
    assert standard.certified + standard.unknown + standard.broken == pytest.approx(1)
    assert standard.method == "linear bounds" and standard.examples == 8 and standard.draws == 1
    assert (table.certified.dropna() <= table.ensemble_ci_high[table.certified.notna()]).all()
    assert table.loc[("noise[sigma=0.1]", "batch/known")].draws == 2
    assert "in every draw" in table.loc[("noise[sigma=0.1]", "batch/known")].method
    for defence in ("resize-pad[scale=0.8]", "rci"):
        refused = table.loc[(defence, "batch/unknown")]
        assert pd.isna(refused.certified) and "none of the defences" in refused.missing


def test_no_statistic_takes_it_for_an_attack(run):
    plain = run.with_name("plain")
    assert (run / "summary.csv").read_bytes() == (plain / "summary.csv").read_bytes()
    assert (run / "verdicts.csv").read_bytes() == (plain / "verdicts.csv").read_bytes()
    assert not (plain / "certified.csv").exists()
    assert "Certified" not in (plain / "report.md").read_text()


def test_the_report_has_a_table(run):
    assert "not certified: resize-pad" in (run / "report.md").read_text()


def test_the_terminal_has_the_bounds(run, csrobust):
    said = " ".join(csrobust("show", run).out.split())
    table = pd.read_csv(run / "certified.csv").set_index(["defence", "threat"])
    standard = table.loc[("standard", "batch/unknown")]
    assert f"linf, eps {standard.eps:g} (pixel)" in said
    for name in ("certified", "unknown", "broken", "ci_low", "ci_high"):
        assert f"{100 * standard[name]:.1f}" in said.partition("Certified, unknown and broken")[2], name
    assert (standard.interval_kind, standard.ensemble_interval_kind) == ("population", "population")
    assert "not certified: resize-pad" in said


def test_certificates_are_kept(run, csrobust, digits_erm, monkeypatch):
    def again(*arguments):
        raise AssertionError("computed a second time")

    monkeypatch.setattr(certifying, "load", again)
    robust = digits_erm.with_name("digits-pgd-at.safetensors")
    before = (run / "certified.csv").read_bytes()
    answer = csrobust(*SMALL, "--ckpt", f"net={robust}", *DEFENDED, "--certify", "--out", run)
    assert answer.code == 0, answer.err
    assert (run / "certified.csv").read_bytes() == before


def test_a_bound_above_an_attack_fails_the_run(csrobust, digits_erm, tmp_path, monkeypatch):
    """The planted fault: everything is certified, and pgd-10 breaks something."""
    monkeypatch.setattr(
        StandardCertifier, "right", lambda self, region, y, *rest: torch.ones(len(y)).double()
    )
    arguments = [*SMALL, "--ckpt", f"net={digits_erm}", "--certify", "--out", tmp_path / "run"]
    arguments[arguments.index("0.05")] = "0.3"
    answer = csrobust(*arguments)
    assert answer.code == 1
    (line,) = [line for line in answer.err.splitlines() if "certified" in line]
    assert "example " in line and " broke it" in line
    assert not (tmp_path / "run" / "certified.csv").exists()
    assert csrobust("report", tmp_path / "run").code == 1


def test_a_probability_above_what_is_left_fails_the_run(csrobust, digits_erm, tmp_path, monkeypatch):
    def nothing(self, region, y, *rest):
        return torch.zeros(len(y)).double()

    monkeypatch.setattr(StandardCertifier, "right", nothing)
    monkeypatch.setattr(Smoothing, "right", lambda self, *rest: nothing(self, *rest) + 0.999999)
    options = ("--defence", "noise:sigma=0.05", "--norm", "l2", "--eps", "3", "--draws", "10")
    arguments = (*SMALL, *options, "--ckpt", f"net={digits_erm}", "--certify", "--out", tmp_path / "run")
    answer = csrobust(*arguments)
    assert answer.code == 1 and "right with probability" in answer.err


def test_a_damaged_certificate_counts_as_none(run, csrobust, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(run, copied)
    for file in (copied / "certificates").iterdir():
        data = json.loads(file.read_text())
        data["certificates"][0]["right"] = [[2.0]]
        file.write_text(json.dumps(data))
    (copied / "certified.csv").unlink()
    assert csrobust("report", copied, "--quiet").code == 0
