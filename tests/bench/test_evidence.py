"""Committed runs made again: what is refused, and what takes the place of what."""

import csv
import json
import subprocess

import pytest

from benchmarks import evidence
from robustbench_coded.runs.log import Done, append

HEADER = [*evidence.SUBJECT, "verdict"]


def _run(folder, verdicts, commit="c0ffee", extra=()):
    folder.mkdir(parents=True)
    (folder / "outcomes.parquet").write_text(commit)
    append(folder, [Done("a", "", {}, {"seconds": 90}), Done("b", "", {}, {"seconds": 30})])
    (folder / "run.json").write_text(json.dumps({"invocations": [{"git": {"commit": commit}}]}))
    with (folder / "verdicts.csv").open("w") as file:
        rows = [["erm", defence, "", "", "batch/unknown", "linf", "0.1", word] for defence, word in verdicts]
        csv.writer(file).writerows([HEADER, *rows])
    for name in extra:
        (folder / name).write_text(commit)
    return folder


def test_a_finished_run_replaces_the_committed_kinds_of_files_and_keeps_its_options(tmp_path):
    reports, runs = tmp_path / "reports", tmp_path / "runs"
    old = _run(
        reports / "digits", [("a", "broken"), ("b", "not settled")], "old", ("run.toml", "run-1.toml", "gone")
    )
    new = _run(runs / "digits", [("a", "broken"), ("b", "no gain")], "new", ("run.toml", "notes.txt"))
    assert evidence.finished(reports, runs) == [new]
    row = evidence.install(new, old, reports / "evidence.csv")
    assert row == ("digits", "new", "2.0", "2", "erm b batch/unknown linf 0.1: not settled -> no gain")
    assert (old / "outcomes.parquet").read_text() == "new"
    assert [(old / name).read_text() for name in ("run.toml", "run-1.toml")] == ["old", "old"]
    assert not (old / "notes.txt").exists()  # kinds of files that are not committed
    assert not (old / "gone").exists()


def test_the_table_has_one_row_for_each_run(tmp_path):
    table = tmp_path / "evidence.csv"
    for name, commit in (("b", "1"), ("a", "2"), ("b", "3")):
        evidence.write_row((name, commit, "1.0", "1", ""), table)
    assert [line[:2] for line in csv.reader(table.open())] == [["run", "commit"], ["a", "2"], ["b", "3"]]


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        (" M attacks/pgd.py\n", (), "commit or stash these first.*\n M attacks/pgd.py"),
        ("", ("b",), "choose from a"),
    ],
)
def test_a_changed_tree_and_an_unknown_name_are_refused(monkeypatch, tmp_path, changes, names, message):
    _run(tmp_path / "a", [], extra=("run.toml",))
    monkeypatch.setattr(
        evidence.subprocess, "run", lambda *a, **_: subprocess.CompletedProcess(a, 0, stdout=changes)
    )
    with pytest.raises(SystemExit, match=message):
        evidence.run(tmp_path, tmp_path / "runs", names)
