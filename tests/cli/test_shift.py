"""``csrobust paper shift`` from one end to the other, on digits."""

import json

import numpy as np
import pytest
import torch

from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift.corruptions import corrupt

TINY = [
    "paper", "shift", "--ckpt", "erm=digits-erm", "--data", "digits", "--limit", "40", "--batch-size", "16",
    "--corruptions", "fog,contrast", "--severities", "2,5", "--draws", "2", "--threads", "1", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main([*TINY, "--rci", "N=1.5K", "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def cached(ran, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(ran / "cache"))
    return ran / "run"


def rows(run):
    lines = (run / "shift.csv").read_text().splitlines()
    heads = lines[0].split(",")
    return [dict(zip(heads, line.split(","))) for line in lines[1:]]


def test_accuracies_are_those_of_the_network_on_the_corrupted_images(cached):
    facts = json.loads((cached / "shift.json").read_text())["shift"]
    assert [(s["name"], s["severity"], s["examples"]) for s in facts["sets"]] == [
        ("clean", 0, 40), ("fog", 2, 40), ("fog", 5, 40), ("contrast", 2, 40), ("contrast", 5, 40)
    ]  # fmt: skip
    # Counted again without any of the machinery: all of the test set, and of it the images of the run.
    data = load_data("digits")
    images = np.round(data.images[np.arange(len(data))] * (255 / 16)).astype(np.uint8)
    (path,) = (cached.parent / "cache").rglob("contrast-5.npy")
    chosen = np.load(path)
    corrupted = corrupt(images, range(len(images)), "contrast", 5, 0)
    places = [int(np.flatnonzero((corrupted == image).all(axis=(1, 2, 3)))[0]) for image in chosen]
    model = with_normalisation(load_checkpoint("digits-erm"), *data.batch(range(64)))
    x = torch.from_numpy(chosen.transpose(0, 3, 1, 2) / 255).float()
    with torch.no_grad():
        right = (model.eval()(x).argmax(1).numpy() == data.labels[places]).mean()
    (row,) = [
        r for r in rows(cached)
        if (r["defence"], r["over"], r["severity"], r["figure"]) == ("standard", "contrast", "5", "accuracy")
    ]  # fmt: skip
    assert float(row["value"]) == pytest.approx(right, abs=1e-6)


def test_the_same_command_computes_nothing_again_and_the_report_comes_out_equal(cached):
    def content():
        return {
            p.name: p.read_bytes()
            for p in cached.rglob("*")
            if p.suffix in (".md", ".html", ".csv", ".parquet")
        }

    before = content()
    stamps = {p: p.stat().st_mtime_ns for p in cached.glob("outcomes/*")}
    assert main([*TINY, "--rci", "N=1.5K", "--out", str(cached)]) == 0
    assert {p: p.stat().st_mtime_ns for p in cached.glob("outcomes/*")} == stamps
    assert main(["report", str(cached), "--quiet"]) == 0
    assert content() == before


def test_two_draws_of_random_inference_are_counted_and_one_of_standard(cached):
    draws = {(r["defence"], r["draws"]) for r in rows(cached)}
    assert draws == {("standard", "1"), ("rci", "2")}


def test_a_folder_of_other_images_is_refused_and_options_are_checked(cached, capsys):
    def refused(*more):
        assert main([*TINY, "--out", str(cached), *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    assert "other sets" in refused("--seed", "1")
    assert "no such corruption" in refused("--corruptions", "fogg")
    assert "grey" in refused("--corruptions", "saturate")
    assert "severities are 1" in refused("--severities", "7")
    assert "--draws 1" in refused("--draws", "1")
    assert "no such checkpoint" in refused("--baseline", "coded")
    assert "labels.npy" in refused("--data", f"cifar10c:{cached}")


def test_another_command_says_that_it_is_a_run_of_shift(cached, capsys):
    assert main(["show", str(cached)]) == 2
    assert "it is a run of shift" in capsys.readouterr().err
