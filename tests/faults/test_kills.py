"""kill -9 at random moments: whatever was committed stays, and the run ends as if nothing had happened."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import stamps
from tests.run_folders import computed


def workers_of(running) -> list[int]:
    """Processes that compute units, not those that manage them."""
    return [pid for pid in running.descendants() if is_worker(pid)]


def is_worker(pid: int) -> bool:
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        words, parents = (Path(f"/proc/{p}/cmdline").read_bytes() for p in (pid, parent))
    except OSError:  # it has just ended
        return False
    return b"ray::_Actor" in words or b"forkserver" in parents


def kill_somebody(running, out: Path, dice: random.Random, whom: str) -> bool:
    """Waits for a random moment of a run and kills the main process or a worker; False if it was too late.

    The moment is a number of commits and a little more: a clock would be over before a busy machine begins.
    Without a commit it lies somewhere between the start and the first units.
    """
    more = dice.randrange(0, 12)
    before = len(stamps(out))
    victims: list[int] = []
    while running.alive() and (not victims or len(stamps(out)) < before + more):
        time.sleep(0.002)
        victims = [running.pid] if whom == "main" else workers_of(running)
    time.sleep(dice.uniform(0.0, 0.05 if more else 2.0))
    with suppress(ProcessLookupError):  # it has ended, or been replaced
        if running.alive():
            os.kill(dice.choice(victims), signal.SIGKILL)
            return True
    return False


@pytest.fixture(scope="module")
def expected(start_in, evaluation, tmp_path_factory):
    """summary.csv of the run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    running = start_in(folder, *evaluation(folder / "run"))
    assert running.wait() == 0, running.output.read_text()
    return (folder / "run" / "summary.csv").read_bytes()


def check_kills(evaluate, folder: Path, expected: bytes, dice: random.Random, whom: str, kills: int) -> None:
    """Kills and resumes until there were enough kills, in a new run folder whenever one is complete."""
    runs = killed = 0
    while True:
        out = folder / f"run{runs}"
        before = stamps(out)
        running = evaluate(out)
        if killed < kills:
            killed += kill_somebody(running, out, dice, whom)
        code = running.wait()
        after = stamps(out)
        assert {name: after.get(name) for name in before} == before
        if code == 0:
            assert (out / "summary.csv").read_bytes() == expected
            assert not list(out.rglob("*.part"))
            runs += 1
            if killed >= kills:
                return
            assert runs <= 5 * kills, "the runs end before anybody is killed"
        else:
            assert (whom, code) == ("main", -signal.SIGKILL), running.output.read_text()


# whom, options, kills in the short and in the long form
CASES = {
    "main": ("main", [], 1, 22),
    "main-of-workers": ("main", ["--workers", 2], 0, 6),
    "workers": ("worker", ["--workers", 2], 1, 10),
    "main-of-ray": ("main", ["--engine", "ray", "--workers", 2], 0, 6),
    "ray": ("worker", ["--engine", "ray", "--workers", 2], 0, 6),
}


LONG = [pytest.param(case, marks=pytest.mark.long) if case == "workers" else case for case in CASES]


@pytest.mark.parametrize("case", LONG)
def test_killed_and_resumed_a_run_ends_the_same(request, start, evaluation, tmp_path, soak, case):
    whom, options, short, long = CASES[case]
    kills = long if soak else short
    if not kills:
        pytest.skip("only with --soak")
    expected = request.getfixturevalue("expected")

    def evaluate(out):
        return start(*evaluation(out, *options))

    check_kills(evaluate, tmp_path, expected, random.Random(case), whom, kills)


@pytest.mark.long
def test_killed_at_any_boundary_of_the_log_a_second_command_ends_the_same(start, evaluation, tmp_path):
    """No unit with a line is attacked again, and none without a line counts."""
    first, second = (partial(evaluation, attacks=attacks, coded=()) for attacks in (1, 4))
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    assert start(*first(begun)).wait() == 0
    shutil.copytree(begun, whole)
    assert start(*second(whole)).wait() == 0
    codes = []
    for moment in range(1, 200):
        out = shutil.copytree(begun, tmp_path / f"run{moment}")
        codes.append(start(*second(out), killed_at=moment).wait())
        before = stamps(out)
        if codes[-1] == 0:
            break
        assert start(*second(out)).wait() == 0
        assert stamps(out).items() >= before.items() and len(computed(out)) == len(set(computed(out)))
        for name in ("summary.csv", "verdicts.csv", "outcomes.parquet"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (moment, name)
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0] and len(codes) > 20
