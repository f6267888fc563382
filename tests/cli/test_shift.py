"""``csrobust paper shift`` from one end to the other, on digits."""

import json

import numpy as np
import pytest
import torch

from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift.corruptions import corrupt
from tests.run_folders import computed

TINY = [
    "paper", "shift", "--ckpt", "erm=digits-erm", "--data", "digits", "--limit", "40", "--batch-size", "16",
    "--corruptions", "fog,contrast", "--severities", "2,5", "--draws", "2", "--threads", "1", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift")
    assert main([*TINY, "--rci", "N=1.5K", "--out", str(folder / "run")]) == 0
    return folder / "run"


def rows(run):
    lines = (run / "shift.csv").read_text().splitlines()
    heads = lines[0].split(",")
    return [dict(zip(heads, line.split(","))) for line in lines[1:]]


def test_accuracies_are_those_of_the_network_on_the_corrupted_images(ran):
    facts = json.loads((ran / "shift.json").read_text())["shift"]
    assert [(s["name"], s["severity"], s["examples"]) for s in facts["sets"]] == [
        ("clean", 0, 40), ("fog", 2, 40), ("fog", 5, 40), ("contrast", 2, 40), ("contrast", 5, 40)
    ]  # fmt: skip
    # Counted again without any of the machinery: the images of the run, corrupted by themselves.
    data = load_data("digits")
    part = evaluated(data, 40, first=False, seed=0)
    images = np.round(part.images[np.arange(40)] * (255 / 16)).astype(np.uint8)
    chosen = corrupt(images, part.numbers, "contrast", 5, 0)
    model = with_normalisation(load_checkpoint("digits-erm"), *data.batch(range(64)))
    x = torch.from_numpy(chosen.transpose(0, 3, 1, 2) / 255).float()
    with torch.no_grad():
        right = (model.eval()(x).argmax(1).numpy() == part.labels).mean()
    (row,) = [
        r for r in rows(ran)
        if (r["defence"], r["over"], r["severity"], r["figure"]) == ("standard", "contrast", "5", "accuracy")
    ]  # fmt: skip
    assert float(row["value"]) == pytest.approx(right, abs=1e-6)


def test_the_same_command_computes_nothing_again_and_the_report_comes_out_equal(ran):
    def content():
        return {
            p.name: p.read_bytes() for p in ran.rglob("*") if p.suffix in (".md", ".html", ".csv", ".parquet")
        }

    before = content()
    units = computed(ran)
    assert main([*TINY, "--rci", "N=1.5K", "--out", str(ran)]) == 0
    assert computed(ran) == units
    assert main(["report", str(ran), "--quiet"]) == 0
    assert content() == before


def test_two_draws_of_random_inference_are_counted_and_one_of_standard(ran):
    draws = {(r["defence"], r["draws"]) for r in rows(ran)}
    assert draws == {("standard", "1"), ("rci", "2")}


def test_a_folder_of_other_images_is_refused_and_options_are_checked(ran, capsys):
    def refused(*more):
        assert main([*TINY, "--out", str(ran), *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    assert "other sets" in refused("--seed", "1")
    assert "no such corruption" in refused("--corruptions", "fogg")
    assert "grey" in refused("--corruptions", "saturate")
    assert "severities are 1" in refused("--severities", "7")
    assert "--draws 1" in refused("--draws", "1")
    assert "no such checkpoint" in refused("--baseline", "coded")
    assert "labels.npy" in refused("--data", f"cifar10c:{ran}")


def test_another_command_says_that_it_is_a_run_of_shift(ran, capsys):
    assert main(["show", str(ran)]) == 2
    assert "it is a run of shift" in capsys.readouterr().err
