"""Networks that are not what they are taken for, at the command line and in the report."""

import json
from pathlib import Path

import pytest

from robustbench_coded.cli.main import main

ERM = str(Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors")
WRONG = ("--ckpt", ERM, "--normalize", "mnist")
CHEAP = ("--attacks", "fgsm", "--limit", "16", "--batch-size", "8", "--threads", "1", "--quiet")


def test_a_contradiction_ends_the_evaluation_with_one_line(capsys, tmp_path):
    assert main(["eval", *WRONG, *CHEAP, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert "its batch-norms contradict digits-cnn on mnist, which is stated" in said
    assert "try --arch 'digits-cnn' --normalize 0.3056/0.3756" in said
    assert said.endswith("--accept-mismatch evaluates it as it is")
    assert not (tmp_path / "run").exists()


def test_an_accepted_mismatch_stands_in_the_first_paragraph(tmp_path):
    run = tmp_path / "run"
    assert main(["eval", *WRONG, *CHEAP, "--accept-mismatch", "--out", str(run)]) == 0
    first = (run / "report.md").read_text().split("\n\n")[1]
    assert first.startswith("Evaluated with --accept-mismatch")
    assert "contradict digits-cnn on mnist" in first
    (facts,) = json.loads((run / "run.json").read_text())["checkpoints"]
    assert facts["normalisation"]["name"] == "mnist"
    assert facts["recognition"]["contradictions"]


def test_a_network_that_is_what_it_is_taken_for_is_told_with_evidence(tmp_path):
    run = tmp_path / "run"
    assert main(["eval", "--ckpt", ERM, *CHEAP, "--out", str(run)]) == 0
    report = (run / "report.md").read_text()
    assert "accept-mismatch" not in report
    details = (run / "details.md").read_text()
    assert "Recognised as digits-cnn on 0.3056/0.3756 (normalisation stored): 3 batch-norms are" in details


@pytest.mark.parametrize("as_json", [True, False])
def test_inspect_with_data_says_what_the_network_is(capsys, as_json):
    assert main(["inspect", ERM, "--data", "auto", *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    assert "recognised as digits-cnn on 0.3056/0.3756" in said
    if as_json:
        facts = json.loads(said)
        assert facts["recognition"]["chosen"]["labelled"]["accuracy"] > 0.99
        assert facts["normalisation"]["mean"] == [0.3056]


@pytest.mark.parametrize("as_json", [True, False])
def test_inspect_says_what_eval_would_refuse(capsys, as_json):
    flags = ["--json"] if as_json else []
    assert main(["inspect", ERM, "--normalize", "mnist", "--data", "auto", *flags]) == 2
    said = capsys.readouterr()
    assert "eval would refuse this: its batch-norms contradict digits-cnn on mnist" in said.out
    (line,) = said.err.strip().splitlines()
    assert line.startswith(f"csrobust: {ERM}: eval would refuse this: its batch-norms contradict")
    # Without images nothing contradicts it.
    assert main(["inspect", ERM, "--normalize", "mnist"]) == 0
