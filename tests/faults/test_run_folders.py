"""Folders that somebody has tampered with, shares, or comes back to with other options."""

import json
import os
import shutil
from pathlib import Path

import pytest

from robustbench_coded.cli.main import run
from robustbench_coded.runs.folder import RunFolder, sealed
from robustbench_coded.runs.log import NAME, read_log
from robustbench_coded.runs.outcomes import TOGETHER
from tests.cli.conftest import complaints
from tests.faults.conftest import stamps
from tests.run_folders import computed, digests, lines

pytestmark = pytest.mark.long


@pytest.fixture
def csrobust(capsys, monkeypatch, tmp_path):
    """Runs a command line in this process: (exit code, what it said on standard error).

    Without the line that says what eval is about to do.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments):
        code = run([str(a) for a in arguments])
        return code, complaints(capsys.readouterr().err)

    return command


@pytest.fixture(scope="module")
def finished(evaluation, tmp_path_factory):
    """A finished run of two commands, and beside it the same one a moment before its end; take copies."""
    out = tmp_path_factory.mktemp("finished") / "run"
    commit, end, first = RunFolder.commit, RunFolder.end, iter(range(5))

    def stopped(self, *given):
        if next(first, None) is None:
            raise KeyboardInterrupt
        commit(self, *given)

    def copied(self, *given):
        shutil.copytree(self.path, out.with_name("unfinished"))
        end(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "commit", stopped)
        assert run([str(a) for a in evaluation(out, attacks=1)]) == 130
        patch.setattr(RunFolder, "commit", commit)
        patch.setattr(RunFolder, "end", copied)
        assert run([str(a) for a in evaluation(out, attacks=1)]) == 0
    assert len(lines(out, "began")) == 2
    return out


@pytest.fixture
def out(finished, tmp_path):
    """A copy of a finished run, summary.csv removed so that it must be written anew."""
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "summary.csv").unlink()
    return path


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of a run that was killed before its end."""
    return shutil.copytree(finished.with_name("unfinished"), tmp_path / "run")


def same(one, other):
    """Whether two finished runs have the same outcomes and tables."""
    names = ("summary.csv", "verdicts.csv", TOGETHER)
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def shards(out: Path) -> list[Path]:
    return sorted((out / "outcomes").glob("*.parquet"))


def flip(path):
    content = bytearray(path.read_bytes())
    # In the data, not in the footer; some single bytes of both are such that no outcome depends on them.
    part = slice(len(content) // 4, len(content) // 3)
    content[part] = bytes(byte ^ 0x10 for byte in content[part])
    path.write_bytes(content)


def swap(path):
    shutil.copy(shards(path.parent.parent)[-1], path)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


def nowhere(path):
    path.unlink()
    path.symlink_to("/nonexistent/file")


@pytest.mark.parametrize("damage", [flip, swap, pipe, folder, nowhere], ids=lambda d: d.__name__)
def test_a_damaged_file_is_named_and_computed_again(csrobust, evaluation, finished, unfinished, damage):
    victim, before = shards(unfinished)[0], computed(unfinished)
    damage(victim)
    code, said = csrobust(*evaluation(unfinished, attacks=1))
    assert code == 0
    assert victim.name in said and "computed again" in said
    assert same(unfinished, finished) and computed(unfinished) == [*before, victim.stem]


def test_a_foreign_file_is_left_alone_and_not_counted(csrobust, evaluation, finished, unfinished):
    shutil.copy(shards(unfinished)[0], unfinished / "outcomes" / f"{'0' * 20}.parquet")
    (unfinished / "outcomes" / "notes.txt").write_text("mine")
    assert csrobust(*evaluation(unfinished, attacks=1))[0] == 0
    assert same(unfinished, finished)
    assert (unfinished / "outcomes" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"\xff[1, 2", b'"text"', b"[" * 100_000], ids=["cut", "text", "deep"])
def test_a_damaged_line_of_the_log_costs_its_unit_alone(csrobust, evaluation, finished, unfinished, content):
    log, before = unfinished / NAME, computed(unfinished)
    whole = log.read_bytes().splitlines()
    place = max(i for i, line in enumerate(whole) if b'"done"' in line)
    log.write_bytes(b"\n".join([*whole[:place], content, *whole[place + 1 :]]) + b"\n")
    assert csrobust(*evaluation(unfinished, attacks=1))[0] == 0
    assert same(unfinished, finished)
    done = [line for line in log.read_bytes().splitlines() if b'"done"' in line]
    assert len(done) == len(before)


@pytest.mark.parametrize(("name", "damaged"), [("run.json", "out"), ("header.json", "unfinished")])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format_version": 3}', b"[" * 100_000], ids=["empty", "list", "bare", "deep"]
)
def test_a_damaged_manifest_is_refused_and_nothing_lost(
    csrobust, evaluation, request, content, name, damaged
):
    run = request.getfixturevalue(damaged)
    (run / name).write_bytes(content)
    before = digests(run)
    code, said = csrobust(*evaluation(run, attacks=1))
    assert code == 2 and name in said and "--overwrite" in said and len(said.splitlines()) == 1
    assert digests(run) == before


def test_a_run_of_an_older_format_is_refused_in_one_line(csrobust, evaluation, out):
    manifest = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**manifest, "format_version": 2}))
    for command in (["report", out], evaluation(out, attacks=1)):
        code, said = csrobust(*command)
        assert code == 2 and "has format 2, this csrobust reads 3" in said and len(said.splitlines()) == 1


def test_a_damaged_manifest_can_be_overwritten(csrobust, evaluation, finished, out):
    (out / "run.json").write_bytes(b"")
    assert csrobust(*evaluation(out, "--overwrite", attacks=1))[0] == 0
    assert same(out, finished)


def test_unit_names_in_a_manifest_are_no_paths(csrobust, evaluation, finished, out):
    outside = out.parent / "precious.parquet"
    outside.write_text("precious")
    manifest = json.loads((out / "run.json").read_text())
    first = manifest["cases"][0]
    case = dict(first["case"], attack="pgd-7")
    manifest["cases"].append(dict(first, case=case, units=["../../precious"]))
    manifest["superseded"] = ["../../precious"]
    (out / "run.json").write_text(sealed(manifest))
    code, said = csrobust(*evaluation(out, attacks=1))
    assert code == 0, said
    assert outside.read_text() == "precious"


def test_a_second_process_is_told(csrobust, evaluation, out):
    with RunFolder(out):
        code, said = csrobust(*evaluation(out, attacks=1))
    assert code == 2 and "another csrobust" in said and len(said.splitlines()) == 1


def test_a_run_killed_before_its_first_file_was_there_begins_again(csrobust, evaluation, finished, tmp_path):
    out = tmp_path / "young"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".run.json.123-abcdef.part").write_text("{")
    assert csrobust(*evaluation(out, attacks=1))[0] == 0
    assert (out / "summary.csv").read_bytes() == (finished / "summary.csv").read_bytes()


def test_overwriting_leaves_other_files_and_can_be_interrupted(
    csrobust, evaluation, finished, unfinished, monkeypatch
):
    out = unfinished
    (out / "my-notes.txt").write_text("mine")
    rmtree = shutil.rmtree

    def killed(path, *args, **kwargs):
        rmtree(path, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        assert csrobust(*evaluation(out, "--overwrite", attacks=1))[0] == 130
    assert not shards(out) and (out / "run.json").exists()
    assert csrobust(*evaluation(out, attacks=1))[0] == 0
    assert (out / "my-notes.txt").read_text() == "mine"
    assert (out / "summary.csv").read_bytes() == (finished / "summary.csv").read_bytes()


def test_other_workers_or_threads_of_the_environment_compute_nothing_again(
    csrobust, evaluation, out, monkeypatch
):
    options = [a for a in evaluation(out, attacks=1) if a not in ("--threads", "1")]
    before = stamps(out)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert csrobust(*options)[0] == 0
    assert csrobust(*options, "--workers", "2")[0] == 0
    assert stamps(out) == before
    assert csrobust(*options, "--threads", "2")[0] == 0
    assert not set(before) & digests(out).keys()


def test_units_that_another_number_of_draws_replaces_go_when_the_new_ones_are_there(
    csrobust, evaluation, finished, out
):
    before = digests(out).keys()
    assert csrobust(*evaluation(out, "--draws", "3", attacks=1))[0] == 0
    now = digests(out).keys()
    assert len(now) == len(before) and not now & before
    assert read_log(out).done.keys() == now
    assert csrobust(*evaluation(out, attacks=1))[0] == 0
    assert (out / "summary.csv").read_bytes() == (finished / "summary.csv").read_bytes()
