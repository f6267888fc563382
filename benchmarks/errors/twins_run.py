"""Honest defences and their broken twins under the plain command, and what each objection did to them.

    python benchmarks/errors/twins_run.py FOLDER SEED [KIND ...]   judges both of each pair into FOLDER
    python benchmarks/errors/twins_run.py FOLDER   writes reports/pairs from all that was judged there

What was judged before is not judged again.
"""

import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.bench.table import pipes
from benchmarks.errors.twins import PAIRS, make
from benchmarks.errors.zoo_judged import EvaluatedEntry, evaluate_known
from benchmarks.smoke import smoke
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parents[2] / "reports" / "pairs"
FAR = 0.03  # above the truth, as in zoo_report.py


def judged(kind: str, seed: int, folder: Path, *, fragile: bool) -> None:
    """Judges one defence and keeps what was said of it."""
    entry, known = make(kind, seed, fragile=fragile)
    kept = folder / f"{entry.name}.json"
    if kept.exists():
        return
    started = time.process_time()
    try:
        found = evaluate_known(entry, known, folder / entry.name, threads=1)
    except IncompleteRun as incomplete:
        found = EvaluatedEntry(entry, known, load_run(incomplete.path))
    seconds = time.process_time() - started
    said = [
        {
            "name": entry.name,
            "broken": fragile,
            "threat": one.threat,
            "truth": [one.truth.low, one.truth.high],
            "left": [one.low, one.estimate, one.high],
            "verdict": one.verdict,
            "fair": one.fair,
            "holds": one.holds,
            "reason": one.reason,
            "seconds": seconds,
        }
        for one in found.findings
    ]
    write_text(kept, json.dumps(said, indent=1))
    truth = known.truth("batch/unknown")
    exact = f"{100 * truth.low:.1f} to {100 * truth.high:.1f}"
    print(
        f"{entry.name:22} {exact:14} {said[0]['verdict']}  {seconds:.0f} s  {said[0]['reason']}", flush=True
    )


COLUMNS = (
    *("defence", "broken", "threat", "truth_low", "truth_high", "accuracy", "ci_low", "ci_high"),
    *("verdict", "fair", "seconds", "reason"),
)
ABOUT = """# Certified pairs

Honest defences of certified robust accuracy, each beside a broken twin of the same mechanism and parameters,
judged by the default protocol. The seed in a name was drawn after the code was committed.
`python benchmarks/errors/twins_run.py FOLDER SEED` evaluates pairs, and without a seed writes this folder.
Truth: what is certified, and what the best attack on the networks underneath leaves. *Too high* marks an
accepted defence whose accuracy lies above that by more than 3 points.
"""


def write_tables(folder: Path) -> None:
    """Writes reports/pairs from what was judged in ``folder``."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        for one in json.loads(path.read_text()):
            low, estimate, high = one["left"]
            figures = [*one["truth"], estimate, low, high]
            shown = [f"{figure:.4f}" for figure in figures]
            rows.append(
                [one["name"], one["broken"], one["threat"], *shown, one["verdict"], one["fair"],
                 f"{one['seconds']:.0f}", one["reason"]]
            )  # fmt: skip
    OUT.mkdir(exist_ok=True)
    with (OUT / "pairs.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    lines: list[Sequence[str]] = [
        ("defence", "threat model", "truth", "accuracy", "verdict", "too high", "s")
    ]
    for name, _, threat, low, high, estimate, start, end, verdict, _, seconds, _ in rows:
        percent = [f"{100 * float(figure):.1f}" for figure in (low, high, estimate, start, end)]
        too_high = "yes" if verdict == "no failure found" and float(estimate) > float(high) + FAR else ""
        truth = " to ".join(dict.fromkeys(percent[:2]))
        accuracy = f"{percent[2]} [{percent[3]}, {percent[4]}]"
        lines.append((name, threat, truth, accuracy, verdict, too_high, seconds))
    write_text(OUT / "report.md", f"{ABOUT}\n{pipes(lines)}\n")
    print(f"written to {OUT}")


def main(folder: Path, seed: str = "", *kinds: str) -> None:
    """Judges what is named, or writes the tables."""
    if not seed:
        write_tables(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds or PAIRS:
        for fragile in (False, True):
            judged(kind, int(seed), folder, fragile=fragile)


if __name__ == "__main__":
    smoke("FOLDER 1 coin")
    main(Path(sys.argv[1]), *sys.argv[2:])
