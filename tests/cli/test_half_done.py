"""What the checks asked for and an interruption left half done is brought to its end by the same command."""

import json

import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.evaluation.planning import plan
from robustbench_coded.evaluation.setup import prepare
from robustbench_coded.runs.folder import MANIFEST

OPTIONS = (
    "--data", "digits", "--limit", "24", "--batch-size", "12", "--attacks", "adaptive,pgd-10",
    "--eps", "0.1", "--threads", "1", "--quiet",
)  # fmt: skip


SEARCHES = ("square-200", "random-200")  # which the checks ask for


@pytest.fixture
def small_units(monkeypatch):
    """A unit for each batch."""
    monkeypatch.setattr(prepare, "images_in_one_forward", lambda device, image_shape: 12)
    monkeypatch.setattr(plan, "IMAGES_PER_UNIT", 1)


@pytest.mark.long
@pytest.mark.usefixtures("small_units")
def test_each_unit_of_a_follow_up_is_computed_whatever_the_others_left(digits_erm, tmp_path):
    robust = digits_erm.with_name("digits-pgd-at.safetensors")
    command = ["eval", "--ckpt", str(robust), *OPTIONS, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    whole = (tmp_path / "run" / "summary.csv").read_bytes()
    manifest = json.loads((tmp_path / "run" / MANIFEST).read_text())
    asked_for = [r for r in manifest["cases"] if r["case"]["attack"] in SEARCHES and len(r["units"]) > 1]
    assert asked_for
    for row in asked_for:
        (tmp_path / "run" / "outcomes" / f"{row['units'][-1]}.parquet").unlink()
    (tmp_path / "run" / MANIFEST).write_text(json.dumps({**manifest, "finished": False}))
    assert main(command) == 0
    assert (tmp_path / "run" / "summary.csv").read_bytes() == whole
