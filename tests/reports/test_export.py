"""``csrobust export``: what other tools are given, and what is refused. Recorders stand in for trackers."""

import json
import sys

import pandas as pd
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.extras.exporters import metrics, verdicts
from robustbench_coded.judge.run import load_run


def exported(run, name, out):
    assert main(["export", str(run), "--to", name, "--out", str(out)]) == 0
    return out


def test_parquet_holds_the_tables_of_the_run(invented_run, tmp_path):
    out, run = exported(invented_run, "parquet", tmp_path / "out"), load_run(invented_run)
    for name in ("summary", "verdicts", "outcomes"):
        frame = pd.read_parquet(out / f"{name}.parquet")
        assert list(frame) == list(getattr(run, name))
        assert len(frame) == len(getattr(run, name)) > 0
    assert pd.read_parquet(out / "summary.parquet").accuracy.equals(run.summary.accuracy)


def test_latex_has_a_booktabs_table_with_every_subject(invented_run, tmp_path):
    text = (exported(invented_run, "latex", tmp_path) / "tables.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") >= 1
    assert "Standard inference" in text and "RCI" in text


def test_robustbench_entries_have_its_fields_and_the_ensemble_as_external(invented_run, tmp_path):
    files = sorted(exported(invented_run, "robustbench", tmp_path).rglob("*.json"))
    run = load_run(invented_run)
    ensembles = run.summary[(run.summary.attack == "ensemble") & (run.summary.threat == "batch/unknown")]
    assert len(files) == len(ensembles)
    entries = [json.loads(file.read_text()) for file in files]
    assert {entry["external"] for entry in entries} == {f"{100 * a:.2f}" for a in ensembles.accuracy}
    for entry in entries:
        assert entry["eps"] == "8/255" and entry["link"] is None and entry["autoattack_acc"] is None
        assert entry["unreliable"] is None
        assert "95% interval" in entry["footnote"]


@pytest.mark.parametrize("name", ["parquet", "latex", "robustbench"])
def test_hostile_names_stay_inside_the_folder(hostile_run, tmp_path, name):
    before = set(tmp_path.rglob("*"))
    out = exported(hostile_run, name, tmp_path / "a" / "out")
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made and all(out in path.parents for path in made)


def test_metrics_are_those_of_the_verdicts(invented_run):
    run = load_run(invented_run)
    found = metrics(run)
    accuracies = [value for name, value in found.items() if name.endswith("/accuracy")]
    assert accuracies == pytest.approx(list(run.verdicts.accuracy))
    assert len(verdicts(run)) == len(run.verdicts)
    assert all(value == value for value in found.values())


def test_metrics_of_subjects_with_like_names_are_kept_apart(hostile_run):
    run = load_run(hostile_run)
    assert len(verdicts(run)) == len(run.verdicts)


class Recorder:
    """A stand-in for both packages: remembers what it was given."""

    def __init__(self):
        self.given = {}
        self.summary = {}
        self.dir = "wandb/offline-run/files"

    def __getattr__(self, name):
        def remember(*positional, **named):
            self.given.setdefault(name, []).append((positional, named))
            return self

        return remember

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_tracking_tools_are_given_every_verdict_and_no_network(invented_run, tmp_path, monkeypatch, name):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, name, recorder)
    exported(invented_run, name, tmp_path)
    run = load_run(invented_run)
    if name == "wandb":
        ((_, options),) = recorder.given["init"]
        assert options["mode"] == "offline" and options["dir"] == str(tmp_path)
        assert recorder.summary == {**metrics(run), **verdicts(run)}
        assert recorder.given["finish"]
    else:
        (uri,), _ = recorder.given["set_tracking_uri"][0]
        assert uri == (tmp_path / "mlruns").resolve().as_uri()
        assert recorder.given["log_metrics"][0][0][0] == metrics(run)
        assert len(recorder.given["log_artifact"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "excel"], "--to 'excel' is not known; choose from latex, mlflow"),
        (["--to", "wandb"], "--to wandb needs the package wandb: pip install 'csrobust[wandb]'"),
    ],
)
def test_what_cannot_be_exported_is_one_line(invented_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["export", str(invented_run), *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_file_is_no_folder(invented_run, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["export", str(invented_run), "--to", "latex", "--out", str(tmp_path / "out")]) == 2
    assert "is a file; give a folder" in capsys.readouterr().err
