"""``csrobust train``: a checkpoint that loads without options."""

import json

import pytest

FAST = ("-o", "arch=digits-cnn", "-o", "data=digits", "-o", "epochs=1", "-o", "batch_size=64")


@pytest.mark.long
def test_a_trained_checkpoint_is_evaluated_without_options(csrobust, tmp_path):
    out = tmp_path / "mine.safetensors"
    answer = csrobust("train", "--recipe", "coded", "-o", "mu=0.3", *FAST, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert 0.1 < json.loads(answer.out)["mean"] <= 1
    facts = json.loads(csrobust("inspect", out, "--json").out)
    assert facts["architecture"] == "digits-cnn" and facts["metadata"]["recipe"] == "coded"
    run = ("--limit", "16", "--attacks", "fgsm", "--out", tmp_path / "run", "--quiet")
    assert csrobust("eval", "--ckpt", out, *run).code == 0

    written = out.read_bytes()
    again = csrobust("train", "--recipe", "coded", "-o", "mu=0.3", *FAST, "--out", out, "--json")
    assert again.out == answer.out and "epoch" not in again.err  # finished: nothing is trained
    other = csrobust("train", "--recipe", "coded", "-o", "mu=0.4", *FAST, "--out", out)
    assert other.code == 2 and "other settings" in other.err
    assert out.read_bytes() == written


def test_blocks_dropout_and_schedule_are_settings(csrobust, tmp_path):
    out = tmp_path / "mine.safetensors"
    settings = ("blocks=0,2", "dropout=0.2", "schedule=milestones", "milestones=1,3")
    options = (word for setting in settings for word in ("--option", setting))
    answer = csrobust("train", "--recipe", "coded", *FAST, *options, "--out", out)
    assert answer.code == 0, answer.err
    metadata = json.loads(csrobust("inspect", out, "--json").out)["metadata"]
    assert metadata["options"]["blocks"] == [0, 2] and metadata["dropout"] == 0.2
    assert (metadata["schedule"], metadata["milestones"]) == ("milestones", [1, 3])


def test_a_file_that_is_no_checkpoint_is_not_overwritten(csrobust, tmp_path):
    out = tmp_path / "x.safetensors"
    out.write_text("kept")
    answer = csrobust("train", "--recipe", "erm", *FAST, "--out", out)
    assert answer.code == 2 and "is there already" in answer.err and out.read_text() == "kept"


def test_a_folder_that_can_not_be_made_is_refused_before_training(csrobust, tmp_path):
    (tmp_path / "file").write_text("kept")
    answer = csrobust("train", "--recipe", "erm", *FAST, "--out", tmp_path / "file" / "x.safetensors")
    assert answer.code == 2 and "is a file" in answer.err
    assert "epoch" not in answer.err
