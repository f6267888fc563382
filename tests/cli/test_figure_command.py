"""``csrobust paper figure``: each figure with its numbers."""

import json

LOSS = ["paper", "figure", "loss", "-o", "data=digits", "-o", "arch=digits-cnn"]
LOSS += ["-o", "epochs=2", "--seeds", "1", "--recipes", "erm"]


def test_a_figure_is_written_with_its_numbers(csrobust, tmp_path):
    answer = csrobust(*LOSS, "--out", tmp_path / "f", "--json")
    assert answer.code == 0, answer.err
    figure = json.loads(answer.out)
    assert figure["figure"] == "loss" and {"loss.svg", "loss.csv", "loss.md"} == {
        path.rsplit("/", 1)[-1] for path in figure["files"]
    }
    assert all((tmp_path / "f" / f"loss.{kind}").stat().st_size > 100 for kind in ("svg", "csv"))
