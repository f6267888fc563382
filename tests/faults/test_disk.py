"""Disks that are full or may not be written to."""

import errno
import os
import subprocess
from contextlib import contextmanager

import pytest

from robustbench_coded.cli.main import run
from robustbench_coded.runs import atomic
from tests.faults.conftest import stamps


@contextmanager
def small_disk(path, size):
    """A file system of its own in memory; skips the test where mounting isn't allowed."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def remount(path, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


def test_a_full_disk_keeps_what_is_finished(evaluation, tmp_path, capsys):
    assert run([str(a) for a in evaluation(tmp_path / "undisturbed", attacks=2)]) == 0
    with small_disk(tmp_path / "disk", "100k") as disk:
        out = disk / "run"
        capsys.readouterr()
        assert run([str(a) for a in evaluation(out, "--quiet", attacks=2)]) == 1
        said = capsys.readouterr().err
        assert "No space left on device" in said and "the same command resumes the run" in said
        assert len(said.splitlines()) == 1
        before = stamps(out)
        assert before and not list(out.rglob("*.part"))
        remount(disk, "size=100M")
        assert run([str(a) for a in evaluation(out, attacks=2)]) == 0
        assert {name: stamps(out)[name] for name in before} == before
        assert (out / "summary.csv").read_bytes() == (tmp_path / "undisturbed" / "summary.csv").read_bytes()


def test_a_read_only_folder_is_refused(evaluation, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "10M") as disk:
        remount(disk, "ro")
        assert run([str(a) for a in evaluation(disk / "run")]) == 2
        said = capsys.readouterr().err
        assert (
            "Read-only file system" in said and len(said.splitlines()) == 2
        )  # what it is about to do, before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
