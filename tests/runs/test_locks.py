"""Run folders on file systems without locks."""

import errno
import fcntl
import logging
import os

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.runs.folder import RunFolder


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
