"""Committed runs made again: what is refused, and what takes the place of what."""

import csv
import hashlib
import io
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
    git = {"commit": commit, "dirty": commit == "changed"}
    told = {"invocations": [{"git": git}], "protocol": {"version": "1"}}
    (folder / "run.json").write_text(json.dumps(told))
    rows = [["erm", defence, "", "", "batch/unknown", "linf", "0.1", word] for defence, word in verdicts]
    for table in evidence.TABLES:
        with (folder / table).open("w") as file:
            csv.writer(file).writerows([HEADER, *rows])
    (folder / "report.md").write_text(f"# {commit}\n\n## Verdicts\n")
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
    row = evidence.install(new, "digits", reports)
    hashes = [hashlib.sha256((new / table).read_bytes()).hexdigest() for table in evidence.TABLES]
    change = "erm b batch/unknown linf 0.1: not settled -> no gain"
    assert row == ("digits", "new", "1", "2.0", "2", change, *hashes)
    assert (old / "outcomes.parquet").read_text() == "new"
    assert [(old / name).read_text() for name in ("run.toml", "run-1.toml")] == ["old", "old"]
    assert not (old / "notes.txt").exists()  # kinds of files that are not committed
    assert not (old / "gone").exists()


def test_a_run_that_stands_with_others_keeps_its_place_and_its_options(tmp_path):
    reports, runs = tmp_path / "reports", tmp_path / "runs"
    (reports / "study").mkdir(parents=True)
    (reports / "study" / "runs.toml").write_text(
        '# Options.\n\n[["study/b-0.5"]]\nlimit = 1\n\n[["study/a"]]\nlimit = 2\n\n[["study/a"]]\nlimit = 3\n'
    )
    (reports / "study" / "report.md").write_text("# Study\n\nIts runs.\n\n")
    for name, verdict in (("study/a", "broken"), ("study/b-0.5", "no gain"), ("study/a", "not settled")):
        new = _run(runs / verdict / name, [("x", verdict)], verdict)
        evidence.put_together(new, name, reports / "study")
    page = (reports / "study" / "report.md").read_text()
    heads = "# Study\n\nIts runs.\n\n## b-0.5\n\n**no gain**\n\n### Verdicts\n\n## a\n\n**not settled**\n"
    assert page == f"{heads}\n### Verdicts\n"
    for table in ("summary", "verdicts"):
        rows = evidence.read(reports / "study" / f"{table}.csv")
        found = [(row["run"], row["verdict"]) for row in rows]
        assert found == [("study/b-0.5", "no gain"), ("study/a", "not settled")]
        assert evidence.rows_of("study/a", table, reports) == rows[1:]
    assert evidence.page_of("study/b-0.5", reports) == "study/report.md#b-05"
    assert evidence.options_of(reports, "study/a") == ["limit = 2", "limit = 3"]
    assert set(evidence.by_cost(reports)) == {"study/a", "study/b-0.5"}


def test_outcomes_of_changed_code_do_not_become_evidence(tmp_path):
    new = _run(tmp_path / "runs" / "a", [], "changed")
    with pytest.raises(SystemExit, match="uncommitted changes"):
        evidence.install(new, "a", tmp_path)


def test_the_hashes_are_of_the_committed_tables():
    """Rows that stand among those of other runs give the bytes that csrobust wrote."""
    rows = evidence.read(evidence.REPORTS / evidence.TABLE)
    assert sorted(row["run"] for row in rows) == sorted(evidence.by_cost(evidence.REPORTS))
    for row in rows:
        for table in ("summary", "verdicts"):
            own = evidence.rows_of(row["run"], table)
            names, text = list(own[0])[1:], io.StringIO()
            lines = [names, *([line[name] for name in names] for line in own)]
            csv.writer(text, lineterminator="\n").writerows(lines)
            found = hashlib.sha256(text.getvalue().encode()).hexdigest()
            assert found == row[f"{table}_sha256"], (row["run"], table)


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
