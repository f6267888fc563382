"""Ctrl-C and SIGTERM: what is finished is kept and reported, and the run says how to go on."""

import os
import signal
import time

import pandas as pd
import pytest

from tests.faults.conftest import stamps

STUCK = '''
import ctypes
from pathlib import Path

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork


class Stuck(WrappedNetwork, Deterministic):
    """Standard inference, which waits for itself in native code while there is a file `stuck`."""

    name = "stuck"

    def logits(self, x, draw):
        if Path("stuck").exists() and Path("run/header.json").exists():  # probes come before it
            Path("is-stuck").touch()
            mutex = ctypes.create_string_buffer(256)
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
        return self.base(x)


def build(model):
    return Stuck(model)
'''


def wait_for(running, path):
    while not path.exists() and running.alive():
        time.sleep(0.01)
    assert path.exists(), running.output.read_text()


RAY = ["--engine", "ray", "--workers", "2"]
CASES = {
    "SIGTERM-in-process": (signal.SIGTERM, []),
    "SIGINT-workers": (signal.SIGINT, ["--workers", "2"]),
    "SIGINT-in-process": (signal.SIGINT, []),
    "SIGTERM-workers": (signal.SIGTERM, ["--workers", "2"]),
    "SIGTERM-ray": (signal.SIGTERM, RAY),
    "SIGINT-ray": (signal.SIGINT, RAY),
}
SHORT = ("SIGTERM-in-process", "SIGINT-workers")

LONG = [pytest.param(case, marks=pytest.mark.long) if case == "SIGINT-workers" else case for case in CASES]


@pytest.mark.parametrize("case", LONG)
def test_a_stopped_run_reports_what_is_finished_and_goes_on(start, evaluation, tmp_path, soak, case):
    if case not in SHORT and not soak:
        pytest.skip("only with --soak")
    stop, options = CASES[case]
    (tmp_path / "stuck.py").write_text(STUCK)
    (tmp_path / "stuck").touch()
    out = tmp_path / "run"
    arguments = evaluation(out, "--defence", "stuck:build", *options, attacks=1)
    running = start(*arguments)
    wait_for(running, tmp_path / "is-stuck")
    os.killpg(running.pid, stop)  # as a terminal does: everybody in the group gets it
    assert running.wait() == 130
    said = running.output.read_text()
    assert "resume with: csrobust eval --ckpt" in said
    assert "Traceback" not in said
    summary = pd.read_csv(out / "summary.csv")
    assert (summary[summary.defence == "stuck"].status == "incomplete").all()
    before = stamps(out)
    (tmp_path / "stuck").unlink()
    # How many workers there are decides nothing; starting them takes seconds.
    running = start(*(arguments if soak else evaluation(out, "--defence", "stuck:build", attacks=1)))
    assert running.wait() == 0, running.output.read_text()
    assert stamps(out).items() >= before.items()
    assert (pd.read_csv(out / "summary.csv").status == "done").all()
