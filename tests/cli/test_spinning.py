"""Threads that wait for each other let other programs have the core, unless the user decided on that."""

import os

import pytest

from robustbench_coded.cli import main as command_line
from robustbench_coded.cli.process import SPINS


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
