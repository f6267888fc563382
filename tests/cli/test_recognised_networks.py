"""Networks that are not what they are taken for, at the command line and in the report."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustbench_coded.cli.main import main
from robustbench_coded.paper.training.fresh import build

pytestmark = pytest.mark.long

ERM = str(Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors")
WRONG = ("--ckpt", ERM, "--normalize", "mnist")
CHEAP = ("--attacks", "fgsm", "--limit", "16", "--batch-size", "8", "--threads", "1", "--quiet")


def test_what_is_stated_is_evaluated_with_a_warning_that_the_report_repeats(capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["eval", *WRONG, *CHEAP[:-1], "--out", str(run)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "taken as digits-cnn with normalisation mnist (architecture by its metadata, normalisation given)"
        in said
    )
    assert "warning: its batch-norms contradict digits-cnn with normalisation mnist, which is stated" in said
    assert "try --arch 'digits-cnn' --normalize 0.3056/0.3756" in said
    report = (run / "report.md").read_text()
    assert "- digits-erm is evaluated as digits-cnn, and may be another network: " in report
    assert "contradict digits-cnn with normalisation mnist" in report
    (facts,) = json.loads((run / "run.json").read_text())["checkpoints"]
    assert facts["normalisation"]["name"] == "mnist"
    assert facts["recognition"]["contradictions"]


def test_what_nothing_decides_is_asked(capsys, robust_perceptron, tmp_path):
    own = f"{robust_perceptron.parent}/own.py:build"
    args = ["eval", "--ckpt", str(robust_perceptron), "--arch", own, *CHEAP[:-1]]
    args += ["--data", "digits", "--eps", "0.15"]
    out = tmp_path / "run"
    assert main([*args, "--out", str(out)]) == 2
    heading, *lines = capsys.readouterr().err.strip().splitlines()[-4:]
    assert "neither its weights nor its file say its normalisation" in heading
    assert any("--normalize none  (9" in line and line.endswith("% of 640 right)") for line in lines)
    assert not out.exists()
    assert main([*args, "--normalize", "none", "--out", str(out)]) == 0


def test_a_network_that_is_what_it_is_taken_for_is_told_with_evidence(tmp_path):
    run = tmp_path / "run"
    assert main(["eval", "--ckpt", ERM, *CHEAP, "--out", str(run)]) == 0
    report = (run / "report.md").read_text()
    assert "may be another network" not in report
    assert "% of 640 images right" in (run / "run.json").read_text()


def test_the_same_weights_in_another_file_are_read_from_that_file(tmp_path):
    for name in ("first", "second"):
        file = Path(shutil.copy(ERM, tmp_path / f"{name}.safetensors"))
        assert main(["eval", "--ckpt", str(file), *CHEAP, "--out", str(tmp_path / name)]) == 0
        (facts,) = json.loads((tmp_path / name / "run.json").read_text())["checkpoints"]
        assert facts["path"] == str(file)
        file.unlink()


def test_inspect_with_data_says_what_the_network_is_and_what_speaks_against_it(capsys):
    assert main(["inspect", ERM, "--data", "auto", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["recognition"]["by"] == ["its metadata", "stored"]
    assert facts["normalisation"]["mean"] == [0.3056]
    assert main(["inspect", *WRONG[1:], "--data", "auto"]) == 0
    said = capsys.readouterr().out
    assert "taken as digits-cnn with normalisation mnist (architecture by its metadata" in said
    assert "warning: its batch-norms contradict digits-cnn with normalisation mnist" in said


def test_inspect_says_what_eval_would_refuse(capsys, tmp_path):
    file = tmp_path / "fresh.pt"
    torch.save(build("digits-cnn", 10, 1).state_dict(), file)
    assert main(["inspect", str(file), "--normalize", "none", "--data", "digits"]) == 2
    said = capsys.readouterr()
    assert "not evaluated: " in said.out and "it is not trained" in said.out
    (line,) = said.err.strip().splitlines()
    assert line.startswith(f"csrobust: {file}: ") and "it is not trained" in line
    assert (
        main(["inspect", str(file), "--normalize", "none"]) == 0
    )  # without images nothing speaks against it


def test_of_several_networks_the_documented_order_decides_and_one_sentence_names_another(capsys, tmp_path):
    trained = load_file(ERM)
    fresh = build("digits-cnn", 10, 1, generator=torch.Generator().manual_seed(3)).state_dict()
    file = tmp_path / "two.pt"
    torch.save({"ema_state_dict": fresh, "state_dict": trained}, file)
    run = tmp_path / "run"
    stated = ("--data", "digits", "--normalize", "0.3056/0.3756")
    arguments = ["eval", "--ckpt", f"two={file}", *CHEAP[:-1], *stated, "--out", str(run)]
    assert main(arguments) == 0
    said = "the weights are those under state_dict; FILE#ema_state_dict evaluates another"
    assert said in " ".join(capsys.readouterr().err.split())
    assert said.replace("_", r"\_") in (run / "report.md").read_text()
    assert main(["inspect", str(file), *stated, "--json"]) == 0
    assert any(note.startswith(said) for note in json.loads(capsys.readouterr().out)["notes"])
    arguments[2] = f"two={file}#ema_state_dict"
    assert main(arguments) == 2
    assert "it is not trained, its labels are others" in capsys.readouterr().err
