"""How the process of a command ends, and threads that wait for each other."""

import os
import runpy
import subprocess
import sys

import pytest

from robustbench_coded.cli import main as command_line
from robustbench_coded.cli.process import SPINS


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": SPINS}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_the_console_script_says_how_long_threads_spin(monkeypatch, given, expected):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = {}

    def run(arguments):
        seen.update(os.environ)
        return 0

    monkeypatch.setattr(command_line, "run", run)
    monkeypatch.setattr(command_line, "keep_memory", lambda: None)  # it would last
    command_line.main(None)
    assert {name: seen[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in seen} == expected
