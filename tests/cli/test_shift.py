"""``csrobust paper shift`` from one end to the other, on digits."""

import csv

import numpy as np
import pandas as pd
import pytest

from robustbench_coded import evaluate
from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift.corruptions import corrupt
from tests.run_folders import lines

TINY = [
    "paper", "shift", "--ckpt", "erm=digits-erm", "--data", "digits", "--limit", "40", "--batch-size", "16",
    "--corruptions", "fog,contrast", "--severities", "2,5", "--draws", "2", "--threads", "1", "--quiet",
    "--rci", "N=1.5K",
]  # fmt: skip
SETS = ("clean", "fog-2", "fog-5", "contrast-2", "contrast-5")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift") / "run"
    assert main([*TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def accuracies(ran):
    """By inference, over and severity."""
    with (ran / "shift.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "accuracy"]
    return {(row["defence"], row["over"], row["severity"]): float(row["value"]) for row in rows}


def of_set(ran, name):
    """Accuracies on unperturbed inputs by inference, from the summary of the set's own run."""
    summary = pd.read_csv(ran / f"digits-c-ours-{name}" / "summary.csv")
    assert set(summary.attack) == {"clean"}
    return dict(zip(summary.defence, summary.accuracy, strict=True))


def test_a_set_is_what_evaluate_makes_of_the_corrupted_array(accuracies):
    data = load_data("digits")
    part = evaluated(data, 40, first=False, seed=0)
    pixels = np.round(part.images[np.arange(40)] * (255 / 16)).astype(np.uint8)
    array = corrupt(pixels, part.numbers, "contrast", 5, 0)
    model = with_normalisation(load_checkpoint("digits-erm"), *data.batch(range(64)))
    options = {"first": True, "limit": 40, "batch_size": 16, "draws": 2, "threads": 1, "quiet": True}
    run = evaluate({"erm": model}, (array, part.labels), defences="rci:N=1.5K", attacks="fgsm", **options)
    clean = run.summary[run.summary.attack == "clean"]
    by_hand = dict(zip(clean.defence, clean.accuracy, strict=True))
    # Of its own data a network that answers as by chance would be refused.
    assert by_hand["standard"] < 0.2 and by_hand == {
        name: accuracies[name, "contrast", "5"] for name in ("standard", "rci")
    }


def test_means_are_over_sets(ran, accuracies):
    sets = {name: of_set(ran, name) for name in SETS}
    for defence in ("standard", "rci"):
        own = {name: accuracy[defence] for name, accuracy in sets.items()}
        assert accuracies[defence, "clean", "0"] == own.pop("clean")
        means = {
            ("fog", ""): "fog",
            ("contrast", ""): "contrast",
            ("severity 2", ""): "2",
            ("mean of 2", ""): "",
        }
        for (over, severity), part in means.items():
            expected = np.mean([accuracy for name, accuracy in own.items() if part in name])
            assert accuracies[defence, over, severity] == pytest.approx(expected, abs=1e-6)


def test_the_same_command_computes_nothing_again_and_the_report_comes_out_equal(ran):
    def content():
        return {p: p.read_bytes() for p in ran.rglob("*") if p.suffix in (".md", ".csv", ".parquet")}

    folders = [ran / f"digits-c-ours-{name}" for name in SETS]
    before, done = content(), [lines(folder, "done") for folder in folders]
    assert all(done)
    assert main([*TINY, "--out", str(ran)]) == 0
    assert [lines(folder, "done") for folder in folders] == done  # with the seconds that they took
    assert content() == before


def test_options_and_a_folder_of_other_images_are_refused_in_one_line(ran, capsys):
    def refused(*more):
        assert main([*TINY, "--out", str(ran), *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    assert "--seed 0, not 1" in refused("--seed", "1")
    assert "fogg: no such corruption; did you mean fog?" in refused("--corruptions", "fogg")
    assert "saturate: grey images" in refused("--corruptions", "saturate")
    assert "fog 7: severities are 1" in refused("--severities", "7")
    assert "labels.npy" in refused("--data", f"cifar10c:{ran}")


def test_a_process_alone_has_no_checkpoint_to_compare(capsys):
    assert main(["paper", "shift", "--defence", "cmd: cat", "--data", "digits"]) == 2
    assert "name one with --ckpt" in capsys.readouterr().err
