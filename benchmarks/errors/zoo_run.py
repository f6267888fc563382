"""Every defence of known truth, judged with default settings, beside what other toolkits say of it.

    python benchmarks/errors/zoo_run.py   writes reports/zoo (less than an hour on two cores)
    python benchmarks/errors/zoo_run.py coin-flip rounding   prints the tables of these alone
    python benchmarks/errors/zoo_run.py --update ...  writes reports/zoo and keeps what was not measured this
        time
    python benchmarks/errors/zoo_run.py --tables   writes its tables again from zoo.csv; nothing is measured

The figures of AutoAttack and torchattacks are those in zoo.csv. They ran as they come and at their default
length, with batches of their own making, and what is printed is their own account. The option of csrobust for
that is deleted: entries that were added since have none.
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors.zoo_entries import entries_parser, measured_entries
from benchmarks.errors.zoo_report import DETAILS, Judged, Measured, details, measured_before, report, table
from benchmarks.smoke import smoke
from robustbench_coded.runs.atomic import write_text
from zoo.registry import ZOO

OUT = Path(__file__).parents[2] / "reports" / "zoo"


def measure(name: str) -> Measured:
    """Judges one entry."""
    from benchmarks.errors.zoo_judged import judge_entry

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        found = judge_entry(name, Path(folder) / "run", threads=1)
        seconds = time.process_time() - started
        judged = tuple(
            Judged(
                one.entry.name,
                one.entry.family,
                one.entry.description,
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
            for one in found
        )
        return Measured(judged, {}, seconds)


def updated(before: dict[str, Measured], measured: Sequence[Measured]) -> list[Measured]:
    """All entries in the order of the zoo, as measured now or else before; what third parties say is kept."""
    now = {
        found.main.defence: found
        if found.main.defence not in before
        else dataclasses.replace(found, accounts=before[found.main.defence].accounts)
        for found in measured
    }
    return [{**before, **now}[name] for name in ZOO if name in now or name in before]


def main() -> None:
    parser = entries_parser(__doc__ or "")
    parser.add_argument(
        "--update", action="store_true", help="write reports/zoo; keep the other figures in it"
    )
    parser.add_argument("--tables", action="store_true", help="write reports/zoo again from its zoo.csv")
    options = parser.parse_args()
    before = measured_before((OUT / "zoo.csv").read_text())
    measured = [] if options.tables else measured_entries(measure, options, parser)
    if options.names and not options.update:
        print(report(measured))
        return
    _write(updated(before, measured))


def _write(measured: Sequence[Measured]) -> None:
    write_text(OUT / "report.md", report(measured))
    write_text(OUT / DETAILS, details(measured))
    write_text(OUT / "zoo.csv", table(measured))
    print(f"written to {OUT}")


if __name__ == "__main__":
    smoke("rounding")
    main()
