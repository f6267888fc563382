"""Committed runs made again: what is refused, and what takes the place of what."""

import csv
import hashlib
import io
import json
import re
import shutil

import pytest

from benchmarks import evidence, reproduce
from robustbench_coded.runs.log import Done, append

HEADER = [*evidence.SUBJECT, "verdict"]


def _run(folder, verdicts, commit="c0ffee", extra=()):
    folder.mkdir(parents=True)
    (folder / "outcomes.parquet").write_text(commit)
    append(folder, [Done("a", "", {}, {"seconds": 90}), Done("b", "", {}, {"seconds": 30})])
    git = {"commit": commit, "dirty": commit == "changed"}
    told = {"invocations": [{"git": git}], "protocol": {"version": "1"}, "finished": commit != "stopped"}
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
    _run(runs / "stopped", [], "stopped")
    _run(reports / "stopped", [], extra=("run.toml",))
    assert evidence.finished(reports, runs) == [new]
    (reports / evidence.TABLE).write_text("run,minutes\ngone,1.5\n")
    row = evidence.install(new, "digits", reports)
    assert [row["run"] for row in evidence.read(reports / evidence.TABLE)] == ["digits"]
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
    (reports / "study" / "report.md").write_text("# Study\n\nIts runs.\n\n## gone\n\n**broken**\n")
    for table in evidence.TABLES:
        (reports / "study" / table).write_text("run,verdict\nstudy/gone,broken\n")
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


def test_a_run_of_a_users_own_in_reports_is_no_evidence():
    """Where README's first command writes it."""
    before, own = evidence.by_cost(evidence.REPORTS), evidence.REPORTS / "a-users-own"
    own.mkdir()
    try:
        for name in ("run.toml", "run.json", evidence.TOGETHER):
            (own / name).write_text('[["mine"]]\nlimit = 1\n')
        assert evidence.by_cost(evidence.REPORTS) == before
        assert own / "run.json" not in evidence.listed(evidence.REPORTS, "*/run.json")
    finally:
        shutil.rmtree(own)


def test_every_network_that_the_options_take_from_elsewhere_is_listed():
    listed = {row["file"] for row in evidence.read(evidence.OTHERS)}
    for name in evidence.by_cost(evidence.REPORTS):
        options = " ".join(evidence.options_of(evidence.REPORTS, name))
        assert set(re.findall(rf"{evidence.SHARED}/([^\"]+)", options)) <= listed


CLAIM = ("Noise", "small", "erm", "noise[sigma=0.1]", "fgsm")
SMALL = """
ckpt = ["erm=checkpoints/digits-erm.safetensors"]
defence = ["noise:sigma=0.1"]
attacks = ["fgsm"]
data = "digits"
limit = 16
threads = 1
until = "settled"
"""


@pytest.mark.long
def test_a_row_is_made_again_and_compared_cell_by_cell(tmp_path, capfd):
    reports, runs = tmp_path / "reports", tmp_path / "runs"
    _run(reports / "small", [])
    (reports / "small" / "run.toml").write_text(SMALL)
    evidence.report(reports, "small", str(tmp_path / "first"))
    for table in evidence.TABLES:
        shutil.copy(tmp_path / "first" / table, reports / "small")
    assert reproduce.run([CLAIM], reports, runs) == 0
    assert "3 of 3 cells in 1 of 1 rows are equal" in capfd.readouterr().out
    table = reports / "small" / "verdicts.csv"
    (verdict,) = {row["verdict"] for row in evidence.read(table)}
    table.write_text(table.read_text().replace(f",{verdict},", ",no failure found,"))
    assert reproduce.run([CLAIM], reports, runs) == 1  # goes on from the finished run
    said = capfd.readouterr().out
    assert "more than an image: small, verdict: [no failure found]" in said and "2 of 3 cells" in said


@pytest.mark.parametrize(
    ("old", "new", "is_far"),
    [
        ("30.0", "30.2", False),  # an image of 640 is 0.16 points
        ("30.0", "30.4", True),
        ("0.4 [0.1, 1.2]", "0.5 [0.1, 1.6]", False),
        ("0.4 [0.1, 1.2]", "0.5 [0.1, 1.7]", True),
        ("0.4 [0.1, 1.2]", "0.4 [0.1, 1.2]†", True),
        ("[no gain](reports/a.md)", "[broken](reports/a.md)", True),
    ],
)
def test_cells_are_apart_by_images(old, new, is_far):
    assert reproduce.further_than_an_image(old, new, 640) is is_far
