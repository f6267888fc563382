"""The oracle of changes that should change no outcome: evaluates, judges, compares.

    run FOLDER [SUITE ...]   evaluates the defences of known truth and keeps their runs (pairs@SEED: new ones)
    judge FOLDER TABLE       verdicts of the kept and of the committed runs, by the code of today
    compare TABLE OTHER      verdicts that differ, the wrong ones first
    count FOLDER TABLE       verdicts that one attack, transform, check, self-test or rule decides (count.py)

Each is `python -m benchmarks.oracle COMMAND ...`. Only `run` evaluates.
"""

import csv
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.evidence import committed
from benchmarks.oracle import count, suites
from benchmarks.smoke import smoke
from robustbench_coded.run import load_run

COLUMNS = (
    "suite",
    "name",
    "threat",
    "broken",
    "truth",
    "accuracy",
    "verdict",
    "fair",
    "open_checks",
    "reason",
)
Verdicts = dict[tuple[str, str, str], dict[str, str]]


def run_all(folder: Path, *names: str) -> None:
    """Two defences side by side; a stopped command goes on."""
    for wanted in names or suites.SUITES:
        suite, _, one = wanted.partition("/")
        chosen = (one,) if one else suites.SUITES[suite.partition("@")[0]]
        evaluate = partial(suites.run, suite, folder=folder)
        with multiprocessing.get_context("spawn").Pool(min(2, len(chosen))) as pool:
            for name, seconds in zip(chosen, pool.imap(evaluate, chosen, chunksize=1), strict=True):
                print(f"{suite:10} {name:30} {seconds:6.1f} s", flush=True)


def judge_all(folder: Path, table: Path) -> None:
    """A line for every verdict."""
    lines: list[tuple[object, ...]] = []
    for file in sorted(folder.glob("*/*.json")):
        for one in suites.findings(file):
            truth = f"{one.truth.low:.4f} to {one.truth.high:.4f}"
            place = (file.parent.name, file.stem, one.threat, one.broken, truth)
            left = accuracy(one.estimate, one.low, one.high)
            lines.append((*place, left, one.verdict, one.fair, ";".join(one.open_checks), one.reason))
    for run, path in committed().items():
        for judgement in load_run(path).judgements:
            name, verdict = f"{run}: {judgement.name}", judgement.verdict
            a, checks = verdict.accuracy, ";".join(verdict.open_checks)
            left = "" if a is None else accuracy(a.estimate, a.low, a.high)
            threat = str(judgement.threat)
            lines.append(("committed", name, threat, "", "", left, verdict.name, "", checks, verdict.reason))
    with table.open("w", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows([COLUMNS, *lines])
    unfair = [line for line in lines if line[7] is False]
    print(f"{len(lines)} verdicts, {len(unfair)} against the truth", *unfair, sep="\n")


def accuracy(estimate: float | None, low: float | None, high: float | None) -> str:
    """``0.1234 [0.1000, 0.1500]``; '' where nothing was measured."""
    return "" if estimate is None else f"{estimate:.4f} [{low:.4f}, {high:.4f}]"


def verdicts(table: Path) -> Verdicts:
    """The lines of a table by suite, name and threat model."""
    with table.open(newline="") as file:
        return {(line["suite"], line["name"], line["threat"]): line for line in csv.DictReader(file)}


def compare(before: Path, after: Path) -> None:
    """Prints what changed, and how often a verdict became wrong, open or settled."""
    old, new = verdicts(before), verdicts(after)
    changed = [key for key in old if key in new and old[key]["verdict"] != new[key]["verdict"]]
    for key in sorted(changed, key=lambda key: new[key]["fair"] != "False"):
        wrong = " WRONG" if new[key]["fair"] == "False" else ""
        first, second = (f"{lines[key]['verdict']} {lines[key]['accuracy']}" for lines in (old, new))
        print(f"{' '.join(key)}: {first} -> {second}, truth {new[key]['truth']}{wrong}")
        print(f"    {new[key]['reason']}")
    opened = [key for key in changed if new[key]["verdict"] == "not settled"]
    settled = [key for key in changed if old[key]["verdict"] == "not settled"]
    figures = [key for key in old if key in new and old[key]["accuracy"] != new[key]["accuracy"]]
    print(f"{len(old)} and {len(new)} verdicts, {len(old.keys() - new.keys())} gone, "
          f"{len(new.keys() - old.keys())} new; {len(changed)} changed, {len(opened)} of them now open, "
          f"{len(settled)} no longer; {len(figures)} accuracies differ")  # fmt: skip
    for key in sorted({*(old.keys() - new.keys()), *(new.keys() - old.keys())}):
        print("gone:" if key in old else "new:", *key)


JUDGED: dict[str, Callable[[Path, Path], None]] = {
    "judge": judge_all,
    "compare": compare,
    "count": count.write_count,
}


if __name__ == "__main__":
    smoke("run FOLDER pairs/coin")
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "run":
        run_all(Path(arguments[0]), *arguments[1:])
    elif command in JUDGED:
        JUDGED[command](*map(Path, arguments))
    else:
        sys.exit(__doc__)
