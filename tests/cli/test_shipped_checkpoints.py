"""Checkpoints that come with the package are named without a path."""

import json
import shutil
from pathlib import Path

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm", "--threads", "1")
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def test_a_shipped_checkpoint_is_evaluated_by_name(csrobust, tmp_path):
    answer = csrobust("eval", "--ckpt", "digits-erm", *SMALL, "--out", tmp_path / "run", "--quiet")
    assert answer.code == 0, answer.err
    (facts,) = json.loads((tmp_path / "run" / "run.json").read_text())["checkpoints"]
    assert (facts["name"], facts["path"]) == ("digits-erm", "digits-erm")  # no folder of this machine


def test_a_file_of_that_name_comes_first(csrobust, tmp_path):
    shutil.copy(CHECKPOINTS / "digits-coded.safetensors", tmp_path / "digits-erm")
    facts = json.loads(csrobust("inspect", "digits-erm", "--json").out)
    assert facts["metadata"]["recipe"] == "coded"


def test_a_mistyped_file_is_told_the_right_one_of_its_folder(csrobust, tmp_path):
    (tmp_path / "resnet18_best.pt").write_bytes(b"weights")
    answer = csrobust("inspect", str(tmp_path / "resnet18-best.pt"))
    assert answer.code == 2 and "did you mean resnet18_best.pt?" in answer.err


def test_the_list_names_every_checkpoint(csrobust):
    listed = [line.split()[0] for line in csrobust("list", "checkpoints").out.splitlines()]
    assert listed == sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))
