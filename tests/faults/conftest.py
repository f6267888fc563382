"""Command lines that can be killed: started quickly, in folders of their own, with their workers in sight."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from robustbench_coded.runs.log import read_log
from tests.evaluation.engine.conftest import digits_in
from tests.run_folders import computed

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"


@dataclass
class Running:
    """A command line at work."""

    pid: int
    output: Path
    zygote: subprocess.Popen

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        return int(self.zygote.stdout.readline())

    def alive(self) -> bool:
        """Whether it still runs; a process that ended and was not waited for counts as gone."""
        try:
            return "Z" not in Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False

    def descendants(self) -> list[int]:
        """Its processes, children before grandchildren."""
        found, new = [], [self.pid]
        while new:
            new = [child for pid in new for child in children_of(pid)]
            found += new
        return found


def children_of(pid: int) -> list[int]:
    """Children of a process's threads; a process or thread that ends meanwhile has none."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    found = []
    for thread in threads:
        with suppress(OSError):
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def stamps(out: Path) -> dict[str, int]:
    """Each unit that counts, and at which line of the log; computing it again would add another."""
    units = read_log(out).done
    return {unit: place for place, unit in enumerate(computed(out)) if unit in units}


@pytest.fixture(scope="session")
def zygote(soak):
    """One process for the session that forks command lines."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py")), *([] if soak else ["unsynced"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def start_in(zygote):
    """Starts ``csrobust ...`` in a folder; one at a time."""

    def start(folder: Path, *arguments: object, killed_at: int = 0) -> Running:
        output = folder / "output.txt"
        order = {"arguments": [str(a) for a in arguments], "folder": str(folder), "output": str(output)}
        order |= {"killed_at": killed_at}
        zygote.stdin.write(json.dumps(order) + "\n")
        zygote.stdin.flush()
        return Running(int(zygote.stdout.readline()), output, zygote)

    return start


@pytest.fixture
def start(start_in, tmp_path):
    """Starts ``csrobust ...`` in ``tmp_path``."""
    return partial(start_in, tmp_path)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return digits_in(tmp_path_factory.mktemp("data"), 32)


@pytest.fixture(scope="session")
def evaluation(data):
    """Arguments of a small evaluation into a folder: some thirty units of some ten milliseconds."""

    def arguments(
        out, *more: object, attacks: int = 5, coded: tuple[str, ...] = ("--rci", "N=1.5K")
    ) -> list[object]:
        names = ",".join(f"pgd-6@{0.01 * (i + 1):.2f}" for i in range(attacks))
        return [
            "eval", "--ckpt", f"erm={CHECKPOINT}", "--data", f"npz:{data}", "--batch-size", "8",
            "--eps", "0.3", *coded, "--attacks", names, "--threads", "1",
            "--draws", "2", "--out", out, *more,
        ]  # fmt: skip

    return arguments
