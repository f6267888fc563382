"""``csrobust paper figure``: each figure with its numbers."""

import json

LOSS = ["paper", "figure", "loss", "--data", "digits", "--arch", "digits-cnn"]
LOSS += ["--epochs", "2", "--seeds", "1", "--recipes", "erm"]


def test_a_figure_is_written_with_its_numbers(csrobust, tmp_path):
    answer = csrobust(*LOSS, "--out", tmp_path / "f", "--json")
    assert answer.code == 0, answer.err
    figure = json.loads(answer.out)
    assert figure["figure"] == "loss" and {"loss.svg", "loss.csv", "loss.md"} == {
        path.rsplit("/", 1)[-1] for path in figure["files"]
    }
    assert all((tmp_path / "f" / f"loss.{kind}").stat().st_size > 100 for kind in ("svg", "csv"))


def test_the_learning_rate_falls_at_the_milestones(csrobust, tmp_path):
    curves = []
    for milestones in ("1", "2"):
        schedule = ["--schedule", "milestones", "--milestones", milestones]
        answer = csrobust(*LOSS, *schedule, "--out", tmp_path / milestones, "--json")
        assert answer.code == 0, answer.err
        curves.append((tmp_path / milestones / "loss.csv").read_text().splitlines())
    first, second = ([curve[1] for curve in curves], [curve[2] for curve in curves])
    assert first[0] == first[1] and second[0] != second[1]
    answer = csrobust(*LOSS, "--schedule", "milestones", "--out", tmp_path / "none")
    assert answer.code == 2 and "say at which epochs" in answer.err
