"""Verdicts on every defence of known truth, beside what other toolkits say of it.

    python -m benchmarks.oracle run FOLDER zoo   evaluates them with default settings (25 minutes)
    python benchmarks/errors/zoo_run.py FOLDER   writes reports/zoo from the runs in FOLDER; what it
                                                 lacks is as zoo.csv has it

The figures of AutoAttack and torchattacks are those in zoo.csv. They ran as they come and at their default
length, with batches of their own making, and what is printed is their own account. The option of csrobust for
that is deleted: entries that were added since have none.
"""

import json
import sys
from pathlib import Path

from benchmarks.errors.zoo_report import DETAILS, Judged, Measured, details, measured_before, report, table
from benchmarks.oracle import suites
from benchmarks.smoke import smoke
from robustbench_coded.runs.atomic import write_text
from zoo.registry import ZOO

OUT = Path(__file__).parents[2] / "reports" / "zoo"


def measured(file: Path, accounts: dict[str, float]) -> Measured:
    """What the kept run of an entry says of it."""
    entry = ZOO[file.stem]
    judged = tuple(
        Judged(
            entry.name,
            entry.family,
            entry.description,
            one.broken,
            one.threat,
            one.truth,
            one.low,
            one.estimate,
            one.high,
            one.verdict,
            one.sense,
            one.reason,
            one.open_checks,
            one.holds,
            one.fair,
        )
        for one in suites.findings(file)
    )
    return Measured(judged, accounts, json.loads(file.read_text())["seconds"])


def main(folder: Path) -> None:
    found, files = measured_before((OUT / "zoo.csv").read_text()), [*folder.glob("zoo/*.json")]
    if not files:
        sys.exit(f"{folder} holds no runs; python -m benchmarks.oracle run {folder} zoo makes them")
    for file in files:
        found[file.stem] = measured(file, found[file.stem].accounts if file.stem in found else {})
    ordered = [found[name] for name in ZOO if name in found]
    write_text(OUT / "report.md", report(ordered))
    write_text(OUT / DETAILS, details(ordered))
    write_text(OUT / "zoo.csv", table(ordered))
    print(f"written to {OUT}")


if __name__ == "__main__":
    smoke(needs="FOLDER, which the oracle fills")
    main(Path(sys.argv[1]))
