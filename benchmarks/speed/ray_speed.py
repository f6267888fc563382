"""How much faster two workers of Ray on this machine are than one, each with one thread.

    python benchmarks/speed/ray_speed.py                 three runs of each, in turns (nine minutes)
    python benchmarks/speed/ray_speed.py --seconds 150   longer ones

Timed is what a user waits for: the whole command, Ray's start, the model's loading and the reports included.
Nothing else should run meanwhile. Leaves nothing behind.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.smoke import smoke

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"
ROUNDS = 3
TRIAL_STEPS = (40, 240)
WANTED = 1.6


@dataclass(frozen=True)
class Timed:
    """One run: seconds of the whole command, and its summary.csv."""

    seconds: float
    summary: bytes


def evaluate(workers: int, steps: int, folder: Path) -> Timed:
    """Attacks RCI with so many steps, on so many workers of a Ray of its own, in a new folder."""
    out = folder / f"run-{workers}-{time.monotonic_ns()}"
    attacks = ",".join(f"pgd-{steps}@{size}" for size in ("0.01", "0.02", "0.03", "0.04"))
    command = [
        sys.executable, "-c", "from robustbench_coded.cli.main import main; main()",
        "eval", "--ckpt", f"erm={CHECKPOINT}", "--data", "digits", "--no-standard", "--rci", "N=1.5K",
        "--attacks", attacks, "--engine", "ray", "--workers", str(workers), "--threads", "1",
        "--out", str(out), "--quiet",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seconds = time.perf_counter() - start
    return Timed(seconds, (out / "summary.csv").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=90.0, help="what one worker should take, about")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, help="so many in place of what takes --seconds; no goal then")
    options = parser.parse_args()
    steps = options.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if steps is None:
            # Two trials, for a run's start and its scoring take their time whatever the number of steps.
            short, long = (evaluate(1, trial, folder).seconds for trial in TRIAL_STEPS)
            for_a_step = (long - short) / (TRIAL_STEPS[1] - TRIAL_STEPS[0])
            steps = TRIAL_STEPS[0] + round((options.seconds - short) / for_a_step)
            print(f"{steps} steps; {TRIAL_STEPS} took {short:.1f} and {long:.1f} s", flush=True)
        found: dict[int, list[Timed]] = {1: [], 2: []}
        for _ in range(options.rounds):
            for workers, runs in found.items():
                runs.append(evaluate(workers, steps, folder))
                print(f"{workers} workers: {runs[-1].seconds:.1f} s", flush=True)
    if len({run.summary for runs in found.values() for run in runs}) != 1:
        sys.exit("the summaries differ")
    one, two = (statistics.median(run.seconds for run in runs) for runs in found.values())
    print(
        f"summaries byte-equal; {one:.1f} s with 1 worker, {two:.1f} s with 2: {one / two:.2f} times as fast"
    )
    if options.steps is None and one < 60:
        sys.exit("that is less than a minute: give more --seconds")
    if options.steps is None and one / two < WANTED:
        sys.exit(f"expected at least {WANTED} times")


if __name__ == "__main__":
    smoke("--rounds 1 --steps 2")
    main()
