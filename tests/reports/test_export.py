"""``csrobust report --format``: what other tools are given, and what is refused."""

import json

import pandas as pd
import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed
from tests.reports.conftest import ACCURACIES, HOSTILE


def exported(run, name, out):
    assert main(["report", str(run), "--format", name, "--out", str(out)]) == 0
    return out


def test_parquet_holds_the_tables_of_the_run(invented_run, tmp_path):
    out, run = exported(invented_run, "parquet", tmp_path / "out"), load_run(invented_run)
    for name in ("summary", "verdicts", "outcomes"):
        frame = pd.read_parquet(out / f"{name}.parquet")
        assert list(frame) == list(getattr(run, name))
        assert len(frame) == len(getattr(run, name)) > 0
    assert pd.read_parquet(out / "summary.parquet").accuracy.equals(run.summary.accuracy)


def test_robustbench_entries_have_its_fields_and_the_ensemble_as_external(invented_run, tmp_path):
    files = sorted(exported(invented_run, "robustbench", tmp_path).rglob("*.json"))
    run = load_run(invented_run)
    ensembles = run.summary[(run.summary.attack == "ensemble") & (run.summary.threat == "batch/unknown")]
    judged = {judgement.subject.defence for judgement in run.judgements}
    ensembles = ensembles[ensembles.defence.isin(judged)]  # a base model that is a comparison has no entry
    assert len(files) == len(ensembles) > 0
    entries = [json.loads(file.read_text()) for file in files]
    assert {entry["external"] for entry in entries} == {f"{100 * a:.2f}" for a in ensembles.accuracy}
    for entry in entries:
        assert entry["eps"] == "8/255" and entry["link"] is None and entry["autoattack_acc"] is None
        assert entry["unreliable"] is None
        assert "% robust accuracy (128 images) is due to" in entry["footnote"]  # disjoint batches alone


def test_an_every_eval_ever_record_has_what_its_schema_requires(make_run, tmp_path):
    """Schema 0.3.0: required fields, enumerations, and texts where it wants texts."""
    path = make_run()
    manifest = json.loads((path / "run.json").read_text())
    manifest["invocations"][-1]["versions"] = {"csrobust": "9.8.7"}
    (path / "run.json").write_text(sealed(manifest))
    (file,) = exported(path, "every-eval-ever", tmp_path / "out").glob("*.json")
    record, run = json.loads(file.read_text()), load_run(path)
    assert record["eval_library"] == {"name": "csrobust", "version": "9.8.7"}  # the version that evaluated
    assert record.keys() == {
        *("schema_version", "evaluation_id", "evaluation_timestamp", "retrieved_timestamp"),
        *("source_metadata", "eval_library", "model_info", "evaluation_results"),
    }
    assert (
        record["schema_version"] == "0.3.0" and record["source_metadata"]["source_type"] == "evaluation_run"
    )
    details = record["model_info"]["additional_details"]
    assert details["deployment_type"] == "self_deployed" and {type(v) for v in details.values()} == {str}
    verdicts = run.verdicts
    assert len(record["evaluation_results"]) == len(verdicts) > 0
    for result, accuracy, low, name in zip(
        record["evaluation_results"], verdicts.accuracy, verdicts.ci_low, verdicts.verdict
    ):
        score, metric = result["score_details"], result["metric_config"]
        assert (score["score"], score["details"]["verdict"]) == (accuracy, name)
        bounds = score["uncertainty"].get("confidence_interval")
        assert (bounds is None) == pd.isna(low) and (bounds is None or bounds["lower"] == low)
        assert score["uncertainty"]["num_samples"] > 0
        assert metric["lower_is_better"] is False and metric["metric_parameters"]["eps_space"] == "pixel"
        assert result["source_data"]["source_type"] in ("hf_dataset", "other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # The clean accuracy alone, a part of the attacks, and none that is missing but the end of the run.
        ({"missing": [(attack, "rci") for attack, _ in ACCURACIES if attack != "clean"]}, "7 of 13"),
        ({"missing": [("pgd-10", "rci")], "finished": False}, "1 of 13 planned cases lacks outcomes"),
        ({"finished": False}, "it was stopped before its end"),
    ],
)
def test_no_robust_accuracy_leaves_a_run_whose_ensemble_is_not_complete(
    make_run, tmp_path, capsys, changes, said
):
    run, out = make_run(**changes), tmp_path / "out"
    assert main(["report", str(run), "--format", "robustbench", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "has no robust accuracy yet" in error and said in error and "goes on with it" in error
    assert not list(out.rglob("*.json"))
    frame = pd.read_parquet(exported(run, "parquet", tmp_path / "tables") / "summary.parquet")
    combined = frame[(frame.attack == "ensemble") & (frame.defence == "rci")]
    if said == "7 of 13":  # clean inputs are no attack
        assert combined.accuracy.isna().all()


@pytest.mark.parametrize("form", ["every-eval-ever", "robustbench"])
def test_names_that_are_alike_as_names_of_files_get_numbers(make_run, subject, tmp_path, form):
    names = ("a b", "a_b", "a/b", "A_B", "a_b-2", "///", "x" * 300, "x" * 301)
    run = make_run(subjects=[subject(name) for name in names])
    for _ in range(2):  # and the same ones again
        files = [path for path in exported(run, form, tmp_path / "out").rglob("*") if path.is_file()]
        assert len({str(path).casefold() for path in files}) == len(names)
    if form != "robustbench":  # whose records name no checkpoint
        contents = [path.read_text() for path in files]
        assert all(
            sum(f'"{name}"' in text or f" {name} " in text for text in contents) == 1 for name in names
        )
    assert not any(path.name.startswith(".") for path in files)


@pytest.mark.parametrize("name", ["parquet", "latex", "robustbench"])
def test_hostile_names_stay_inside_the_folder(hostile_run, make_run, subject, tmp_path, name):
    # A unit of the hostile run failed: it has no robust accuracy for others.
    complete = make_run("complete", subjects=[subject(text, f"plug-in {text}", 32, 48) for text in HOSTILE])
    before = set(tmp_path.rglob("*"))
    out = exported(complete if name == "robustbench" else hostile_run, name, tmp_path / "a" / "out")
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made and all(out in path.parents for path in made)


def test_another_format_is_refused(invented_run, tmp_path, capsys):
    assert main(["report", str(invented_run), "--format", "excel", "--out", str(tmp_path / "out")]) == 2
    assert "--format 'excel' is not known; choose from md, html, every-eval-ever" in capsys.readouterr().err


def test_a_file_is_no_folder(invented_run, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["report", str(invented_run), "--format", "latex", "--out", str(tmp_path / "out")]) == 2
    assert "is a file; give a folder" in capsys.readouterr().err
