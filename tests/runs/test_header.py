"""What run.json says, from the header of a command and the changes in the log."""

import errno
import fcntl
import logging
import os
import random
from pathlib import Path

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.runs import atomic
from robustbench_coded.runs.folder import HEADER, RunFolder, change_between, changed, read_manifest


def manifest(cases, **fields):
    return {"cases": [{"case": {"attack": name}, "units": units} for name, units in cases], **fields}


@pytest.mark.parametrize("seed", range(20))
def test_any_change_is_undone_by_nothing_but_itself(seed):
    draw = random.Random(seed)

    def any_manifest():
        names = draw.sample("abcdefgh", draw.randint(0, 8))
        cases = [(name, [str(draw.randint(0, 2))]) for name in names]
        return manifest(cases, notes=[draw.choice("xy")], stopped=draw.random() < 0.5)

    before, now = any_manifest(), any_manifest()
    assert changed(before, change_between(before, now)) == now
    assert change_between(now, now).cases == change_between(now, now).gone == ()


def test_a_case_that_is_put_between_others_is_the_only_one_said():
    before = manifest([("a", []), ("c", [])], notes=[])
    now = manifest([("a", []), ("b", ["1"]), ("c", [])], notes=[])
    change = change_between(before, {**now, "cases": tuple(now["cases"])})  # as msgspec has them
    assert [(place, record["units"]) for place, record in change.cases] == [(1, ["1"])]
    assert not change.fields


def test_a_folder_says_what_its_header_and_its_log_say(tmp_path):
    first, second = manifest([("a", [])], finished=False), manifest([("a", ["1"])], finished=False)
    with RunFolder(tmp_path / "run") as folder:
        folder.begin(first)
        folder.log(change_between(first, second))
        expected = {"format_version": 3, **second}
        assert folder.holds_run and read_manifest(folder.path) == expected
        folder.end({**second, "finished": True}, [])
        assert read_manifest(folder.path) == {**expected, "finished": True}
        assert not (folder.path / HEADER).exists()
        folder.begin(first)  # another command: what the log said before does not count
        assert read_manifest(folder.path) == {"format_version": 3, **first}


def failing(monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_run_goes_on_without_them_and_says_so(tmp_path, monkeypatch, caplog, number):
    failing(monkeypatch, number)
    monkeypatch.setattr(logging.getLogger("csrobust"), "propagate", True)
    with RunFolder(tmp_path / "run") as folder:
        folder.write_manifest({})
    assert (tmp_path / "run" / "run.json").exists()
    assert "no locks" in caplog.text and "one command at a time" in caplog.text


def test_a_failing_disk_is_still_refused(tmp_path, monkeypatch):
    failing(monkeypatch, errno.EIO)
    with pytest.raises(InputError, match="can't be written"), RunFolder(tmp_path / "run"):
        pass


def test_the_file_is_forced_to_the_disk_then_renamed_then_its_folder(tmp_path, monkeypatch):
    path = tmp_path / "unit" / "file"
    seen = []

    def force(descriptor):
        forced = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(("folder" if forced.is_dir() else forced.read_bytes(), path.exists()))

    monkeypatch.setattr(os, "fsync", force)
    atomic.write_bytes(path, b"outcomes")
    assert seen == [(b"outcomes", False), ("folder", True)]
    atomic.write_bytes(path, b"others", synced=False)
    assert len(seen) == 2 and path.read_bytes() == b"others"
