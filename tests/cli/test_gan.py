"""``csrobust gan`` from one end to the other, and what it refuses."""

import json

import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.evaluation.engine.worker_pool import EngineError
from robustbench_coded.paper.generation.config import GeneratorPoint
from robustbench_coded.paper.generation.train import POINTS
from robustbench_coded.paper.studies.over_seeds import Records

pytestmark = pytest.mark.long

TINY = [
    "gan", "--data", "digits", "--features", "digits-erm", "--n", "12", "--iterations", "2", "--every", "1",
    "--samples", "100", "--batch-size", "8", "--seeds", "2",
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


def test_tensorboard_gets_every_measurement_and_its_images(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    tiny = [*TINY, "--seeds", "1", "--out", str(tmp_path / "gan"), "--quiet", "--tensorboard", str(logs)]
    assert main(tiny) == 0
    assert {path.name for path in logs.iterdir()} == {"plain-seed0", "coded-n12-seed0"}
    events = EventAccumulator(str(logs / "coded-n12-seed0"))
    events.Reload()
    points = Records(tmp_path / "gan" / "coded-n12-seed0" / POINTS, GeneratorPoint).rows
    told = [(event.step, event.value) for event in events.Scalars("distance")]
    assert told == [(p.iteration, pytest.approx(p.distance, rel=1e-6)) for p in points]
    assert len(told) == 2 and len(events.Images("samples")) == 2


def test_a_stop_and_a_dead_worker_are_one_line_that_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def raising(error):
        def study(*args, **options):
            raise error

        monkeypatch.setattr("robustbench_coded.paper.generation.study.study", study)

    raising(KeyboardInterrupt())
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    assert "the same command" in capsys.readouterr().err
    raising(EngineError("a worker ended (plain-seed0): signal 9"))
    assert main([*TINY, "--out", str(tmp_path)]) == 1
    assert "(plain-seed0): signal 9; " in capsys.readouterr().err
    assert main([*TINY, "--out", str(tmp_path), "--workers", "0"]) == 2
    assert "--workers 0" in capsys.readouterr().err
