"""``csrobust figure``: each figure with its numbers."""

import json

import pytest


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["smoothness", "--ckpt", "CKPT", "--batch-size", "16", "--batches", "1"], "smoothness"),
        (["loss", "--data", "digits", "--arch", "digits-cnn", "--epochs", "2", "--seeds", "1",
          "--recipes", "erm"], "loss"),
    ],
)  # fmt: skip
def test_a_figure_is_written_with_its_numbers(csrobust, tmp_path, digits_erm, options, name):
    options = [digits_erm if option == "CKPT" else option for option in options]
    answer = csrobust("figure", *options, "--out", tmp_path / "f", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    pages = {"loss.md"} if name == "loss" else set()  # the paper has no figure of smoothness
    assert found["figure"] == name and {f"{name}.svg", f"{name}.csv", *pages} == {
        path.rsplit("/", 1)[-1] for path in found["files"]
    }
    assert all((tmp_path / "f" / f"{name}.{kind}").stat().st_size > 100 for kind in ("svg", "csv"))
