"""``csrobust train``: a checkpoint that loads without options."""

import json

import pytest

FAST = ("--arch", "digits-cnn", "--data", "digits", "--epochs", "1", "--batch-size", "64")


def test_a_trained_checkpoint_is_evaluated_without_options(csrobust, tmp_path):
    out = tmp_path / "mine.safetensors"
    answer = csrobust("train", "--recipe", "coded", "--option", "mu=0.3", *FAST, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert 0.1 < json.loads(answer.out)["mean"] <= 1
    facts = json.loads(csrobust("inspect", out, "--json").out)
    assert facts["architecture"] == "digits-cnn" and facts["metadata"]["recipe"] == "coded"
    run = ("--limit", "16", "--attacks", "fgsm", "--out", tmp_path / "run", "--quiet")
    assert csrobust("eval", "--ckpt", out, *run).code == 0


def test_seeds_give_a_mean_and_a_deviation(csrobust, tmp_path):
    out = tmp_path / "mine.safetensors"
    answer = csrobust("train", "--recipe", "erm", *FAST, "--seeds", "2", "--out", out, "--json")
    data = json.loads(answer.out)
    assert [run["seed"] for run in data["runs"]] == [0, 1] and data["deviation"] is not None
    assert {p.name for p in tmp_path.glob("*.safetensors")} >= {
        "mine-seed0.safetensors",
        "mine-seed1.safetensors",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "coder", *FAST], ["coder", "coded"]),
        (["--recipe", "coded", "--option", "nu=1", *FAST], ["nu"]),
        (["--recipe", "coded", "--option", "mu=2", *FAST], ["mu"]),
        (["--recipe", "coded", "--option", "mu", *FAST], ["mu"]),
        (["--recipe", "erm", "--data", "digits"], ["--arch"]),
        (["--recipe", "erm", *FAST, "--seeds", "0"], ["--seeds 0"]),
        (["--recipe", "nowhere.toml"], ["nowhere.toml"]),
    ],
)
def test_wrong_input(csrobust, tmp_path, options, words):
    answer = csrobust("train", *options, "--out", tmp_path / "x.safetensors")
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert len(answer.err.strip().splitlines()) == 1
