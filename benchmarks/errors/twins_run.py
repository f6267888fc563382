"""The page on honest defences and their broken twins.

    python -m benchmarks.oracle run FOLDER pairs pairs@SEED   evaluates both of each pair
    python benchmarks/errors/twins_run.py FOLDER              writes reports/pairs from the runs in FOLDER

A pair has one seed, which stands in its name.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.table import pipes
from benchmarks.oracle import suites
from benchmarks.smoke import smoke
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parents[2] / "reports" / "pairs"
FAR = 0.03  # above the truth, as in zoo_report.py


COLUMNS = (
    *("defence", "broken", "threat", "truth_low", "truth_high", "accuracy", "ci_low", "ci_high"),
    *("verdict", "fair", "seconds", "reason"),
)
ABOUT = """# Certified pairs

Honest defences of certified robust accuracy, each beside a broken twin of the same mechanism and parameters,
judged by the default protocol. The seed in a name was drawn after the code was committed.
`python -m benchmarks.oracle run FOLDER pairs@SEED` evaluates pairs, and
`python benchmarks/errors/twins_run.py FOLDER` writes this folder.
Truth: what is certified, and what the best attack on the networks underneath leaves. *Too high* marks an
accepted defence whose accuracy lies above that by more than 3 points.
"""


def rows_in(folder: Path) -> list[list[Any]]:
    """A row for each verdict of the kept pairs, by name."""
    rows = []
    for file in folder.glob("pairs*/*.json"):
        seconds = json.loads(file.read_text())["seconds"]
        for one in suites.findings(file):
            assert one.low is not None and one.estimate is not None and one.high is not None
            figures = (one.truth.low, one.truth.high, one.estimate, one.low, one.high)
            shown = [f"{figure:.4f}" for figure in figures]
            rows.append(
                [one.entry.name, one.entry.broken, one.threat, *shown, one.verdict, one.fair,
                 f"{seconds:.0f}", one.reason]
            )  # fmt: skip
    return sorted(rows, key=lambda row: row[0])  # an honest one before its twin


def main(folder: Path) -> None:
    rows = rows_in(folder)
    if not rows:
        sys.exit(f"{folder} holds no pairs; python -m benchmarks.oracle run {folder} pairs evaluates them")
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


if __name__ == "__main__":
    smoke(needs="FOLDER, which the oracle fills")
    main(Path(sys.argv[1]))
