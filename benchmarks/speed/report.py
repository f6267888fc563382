"""What a report costs: `csrobust report` on an invented run of 10,000 examples x 12 attacks x 10 draws.

    python benchmarks/speed/report.py [--examples 10000] [--profile]

Prints seconds (wall clock and CPU, Python's start included) and peak memory of a fresh process on two cores.
The goal is 15 s and 1 GB. The run is invented by the tests' own code; its figures mean nothing.
"""

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

INVENTOR = Path(__file__).parents[2] / "tests" / "reports" / "conftest.py"
# attack, threat -> accuracy of standard inference (None: not run on it) and of RCI: the nulls, 12 attacks
ACCURACIES = {
    ("clean", "batch/unknown"): (0.91, 0.88),
    ("random-sign", "batch/unknown"): (0.79, 0.72),
    ("fgsm", "batch/unknown"): (0.15, 0.45),
    ("pgd-10", "batch/unknown"): (0.0, 0.29),
    ("pgd-100", "batch/unknown"): (0.0, 0.19),
    ("eot5-pgd-20", "batch/unknown"): (None, 0.14),
    ("eot10-pgd-20", "batch/unknown"): (None, 0.10),
    ("eot20-pgd-20", "batch/unknown"): (None, 0.08),
    ("fixed-pgd-10", "batch/unknown"): (None, 0.33),
    ("square-1000", "batch/unknown"): (None, 0.41),
    ("transfer-pgd-20", "batch/unknown"): (None, 0.01),
    ("aware-pgd-10", "batch/known"): (None, 0.22),
    ("aware-pgd-20+init=transfer-pgd-20", "batch/known"): (None, 0.01),
}


CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true", help="Print where the time goes, too.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        invent(run, options.examples)
        size = sum(path.stat().st_size for path in (run / "outcomes").iterdir())
        attacks = len(ACCURACIES) - 2
        print(f"{options.examples:,} examples x {attacks} attacks x 10 draws, outcomes {size / 1e6:.1f} MB")
        command = [str(Path(sys.executable).with_name("csrobust")), "report", str(run), "--quiet"]
        if options.profile:
            command = [sys.executable, "-m", "cProfile", "-s", "cumulative", *command]
        measure(command)
        page = (run / "report.html").stat().st_size
        print(f"report.html: {page / 1e6:.1f} MB")


def invent(path: Path, examples: int) -> None:
    """Writes a run folder of standard inference and RCI, with 10 selection and 10 scoring draws."""
    tests = _inventor()
    subjects = (tests.Subject("erm"), tests.Subject("erm", "rci", 128, 192))
    run = tests.Invented(
        subjects=subjects,
        accuracies=ACCURACIES,
        examples=examples,
        draws=10,
        selection_draws=10,
        batch_size=128,
    )
    tests.write_invented(path, run)


def measure(command: list[str]) -> None:
    """Runs a command on `CORES` cores and prints what it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    print(
        f"seconds: {seconds:.1f} ({spent.ru_utime + spent.ru_stime:.1f} of CPU); "
        f"peak memory: {spent.ru_maxrss * unit / 1e6:.0f} MB"
    )


def _inventor() -> ModuleType:
    """The tests' code that invents runs."""
    spec = importlib.util.spec_from_file_location("invented_runs", INVENTOR)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["invented_runs"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
