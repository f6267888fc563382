"""How the process of a command ends."""

import runpy
import subprocess
import sys

import pytest


def test_a_reader_that_has_left_is_no_error():
    command = [sys.executable, "-c", "from robustbench_coded.cli.main import main; main()", "eval", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1)


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["csrobust", "list", "data"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("robustbench_coded", run_name="__main__")
    assert ended.value.code == 0
    assert "digits" in capsys.readouterr().out
