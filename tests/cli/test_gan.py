"""``csrobust paper gan`` from one end to the other, and what it refuses."""

import json

import pytest

from robustbench_coded.cli.main import main

pytestmark = pytest.mark.long

TINY = [
    "paper", "gan", "-o", "data=digits", "--features", "digits-erm", "--n", "12", "-o", "iterations=2",
    "-o", "every=1", "-o", "samples=100", "-o", "batch_size=8", "--seeds", "2",
]  # fmt: skip


def test_plain_and_coded_generators_are_compared_and_the_report_names_the_classifier(tmp_path, capsys):
    assert main([*TINY, "--out", str(tmp_path), "--json", "--quiet"]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [(p["variant"], p["seed"], p["iteration"]) for p in points] == [
        ("plain", 0, 2), ("plain", 1, 2), ("coded N=12", 0, 2), ("coded N=12", 1, 2)
    ]  # fmt: skip
    report = (tmp_path / "report.md").read_text()
    assert "FD (digits-cnn, " in report and "FID" not in report and ", paper" not in report
    assert (tmp_path / "figures" / "samples.svg").is_file() and (tmp_path / "report.html").is_file()


def test_features_that_are_not_there_are_refused(tmp_path, capsys):
    assert main([*TINY, "--out", str(tmp_path), "--features", str(tmp_path / "no.pt")]) == 2
    assert "no.pt" in capsys.readouterr().err


def test_a_stop_is_one_line_that_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def study(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("robustbench_coded.paper.generation.study.study", study)
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    assert "the same command" in capsys.readouterr().err
