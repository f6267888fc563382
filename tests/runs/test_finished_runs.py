"""A finished run is a few files; it can be extended, and what is damaged is computed again."""

import json
import shutil

import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.runs.folder import RunFolder, read_manifest, read_run
from robustbench_coded.runs.log import NAME, read_log
from robustbench_coded.runs.outcomes import TOGETHER, units_in, write_units

pytestmark = pytest.mark.long

OPTIONS = (
    "--ckpt", "digits-erm", "--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm",
    "--rci", "N=1.5K", "--draws", "2", "--threads", "1", "--quiet",
)  # fmt: skip
FILES = {
    ".lock", NAME, TOGETHER, "run.json", "run.toml", "summary.csv", "verdicts.csv", "report.md", "report.html"
}  # fmt: skip
TABLES = ("summary.csv", "verdicts.csv", "report.md", TOGETHER)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["eval", *OPTIONS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def contents(run, names=TABLES):
    """By name, as in a folder that is called RUN: the next command says where a run lies."""
    return {name: (run / name).read_bytes().replace(str(run).encode(), b"RUN") for name in names}


def units_of(run):
    return list(read_log(run).done)


def test_it_is_these_files(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    frame, metadata, timings = read_run(finished, units_of(finished))
    assert len(frame) == sum(len(unit.rows) for unit in units_in(finished / TOGETHER).values()) > 0
    assert len(metadata) == len(timings) > 5


def test_the_same_command_changes_nothing_and_a_longer_one_extends_it(finished, run):
    before = units_of(run)
    assert main(["eval", *OPTIONS, "--out", str(run)]) == 0
    assert contents(run) == contents(finished) and units_of(run) == before
    assert main(["eval", *OPTIONS, "--attacks", "fgsm,pgd-2", "--out", str(run)]) == 0
    assert {path.name for path in run.iterdir()} == FILES
    after = units_in(run / TOGETHER)
    assert after.keys() > set(before)
    old = units_in(finished / TOGETHER)
    assert all(after[unit].digest == old[unit].digest for unit in old)


def test_outcomes_that_cannot_be_read_at_the_end_are_set_aside(run):
    (run / TOGETHER).write_bytes(b"not now")
    with RunFolder(run) as folder:
        folder.end(read_manifest(run), units_of(run))
    assert (run / f"{TOGETHER}.damaged").read_bytes() == b"not now"
    assert units_in(run / TOGETHER) == {}


def test_a_unit_that_was_altered_is_computed_again_and_no_other(finished, run, capsys):
    units = {name: unit.rows for name, unit in units_in(run / TOGETHER).items()}
    victim = next(iter(units))
    place = units[victim].schema.get_field_index("label")
    column = units[victim].column(place)
    units[victim] = units[victim].set_column(
        place, units[victim].schema.field(place), column.slice(1).take([0, *range(len(column) - 1)])
    )
    write_units(run / TOGETHER, units)
    assert victim not in read_run(run, list(units))[1]
    lines = (run / NAME).read_bytes().splitlines()
    assert main(["eval", *OPTIONS, "--out", str(run)]) == 0
    assert contents(run) == contents(finished)
    done = [line for line in (run / NAME).read_bytes().splitlines()[len(lines) :] if b'"done"' in line]
    assert len(done) == 1 and victim.encode() in done[0]


def test_a_file_that_cannot_be_read_is_named_and_kept_aside(finished, run, capsys):
    file = run / TOGETHER
    file.write_bytes(file.read_bytes()[:-100])
    before = contents(run)
    for command in ("report", "show"):  # earlier reports are not replaced by ones that have nothing
        capsys.readouterr()
        assert main([command, str(run)]) == 2
        said = capsys.readouterr().err
        assert f"{file} can't be read" in said and said.count("\n") == 1
        assert contents(run) == before
    assert main(["eval", *OPTIONS, "--out", str(run)]) == 0
    assert contents(run) == contents(finished)
    assert (run / f"{TOGETHER}.damaged").read_bytes() == before[TOGETHER]


def test_a_field_that_was_edited_by_hand_is_noticed(run, capsys):
    manifest = json.loads((run / "run.json").read_text())
    manifest["cases"][0]["draws"] += 1
    (run / "run.json").write_text(json.dumps(manifest))
    for command in (["report", str(run)], ["eval", *OPTIONS, "--out", str(run)]):
        capsys.readouterr()
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "run.json was changed after the run had written it" in said and said.count("\n") == 1


def test_without_its_log_nothing_counts_and_all_is_computed_again(finished, run):
    (run / NAME).unlink()
    assert read_run(run, units_of(finished))[1] == {}
    assert main(["eval", *OPTIONS, "--out", str(run)]) == 0
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("when", ["before it is written", "while it has both"])
def test_a_command_killed_where_run_json_is_written_is_finished_by_the_next(
    finished, tmp_path, monkeypatch, when
):
    """The header and run.json may be there together; both say the same."""
    from robustbench_coded.runs.folder import RunFolder

    out, write = tmp_path / "run", RunFolder.write_manifest

    def killed(self, manifest):
        if when == "while it has both":
            write(self, manifest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_manifest", killed)
        assert main(["eval", *OPTIONS, "--out", str(out)]) == 130
    assert (out / "header.json").exists()
    assert main(["report", str(out), "--quiet"]) == 0
    assert contents(out, ["summary.csv", "verdicts.csv"]) == contents(
        finished, ["summary.csv", "verdicts.csv"]
    )
    lines = (out / NAME).read_bytes()
    assert main(["eval", *OPTIONS, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES and contents(out) == contents(finished)
    assert b'"done"' not in (out / NAME).read_bytes()[len(lines) :]
