"""Every defence of known truth, judged with default settings, beside what other toolkits say of it.

    python benchmarks/errors/zoo_run.py   writes reports/zoo (less than an hour on two cores)
    python benchmarks/errors/zoo_run.py coin-flip rounding   prints the tables of these alone
    python benchmarks/errors/zoo_run.py --no-third-party ...
    python benchmarks/errors/zoo_run.py --update ...  writes reports/zoo and keeps what was not measured this
        time
    python benchmarks/errors/zoo_run.py --tables   writes its tables again from zoo.csv; nothing is measured

AutoAttack and torchattacks run as they come and at their default length: they show the defence the batches of
their own making, and what is printed is their own account, not our scoring of what they found.
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors.zoo_entries import entries_parser, measured_entries
from benchmarks.errors.zoo_report import DETAILS, Judged, Measured, details, measured_before, report, table
from robustbench_coded.runs.atomic import write_text
from zoo.registry import ZOO

OUT = Path(__file__).parents[2] / "reports" / "zoo"
AUTOATTACK = {True: "autoattack:rand", False: "autoattack:standard"}
PGD = {"linf": "torchattacks:PGD", "l2": "torchattacks:PGDL2"}
EOTPGD = "torchattacks:EOTPGD"


def measure(name: str, *, third_party: bool) -> Measured:
    """Judges one entry, and lets the third-party attacks judge it."""
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
        accounts = _their_own(name, Path(folder) / "theirs") if third_party else {}
        return Measured(judged, accounts, seconds)


def _their_own(name: str, out: Path) -> dict[str, float]:
    """The share that stands by each third-party attack's own account; none where the entry stops them."""
    from attacks.adapters.third_party import installed
    from benchmarks.errors.zoo_judged import evaluate_entry
    from robustbench_coded.errors import InputError
    from robustbench_coded.evaluation.session.evaluate import IncompleteRun
    from robustbench_coded.judge.run import load_run

    entry = ZOO[name]
    defence = entry.build()
    attacks = [
        AUTOATTACK[defence.randomised],
        PGD[entry.norm],
        *([EOTPGD] if entry.norm == "linf" else []),
    ]
    attacks = [attack for attack in attacks if installed(attack.partition(":")[0])]
    options: dict[str, Any] = {
        "standard": False, "third_party_batches": True, "draws": 1, "selection_draws": 1, "threads": 1,
    }  # fmt: skip
    if not attacks:
        return {}
    try:
        run = evaluate_entry(name, out, attacks=attacks, checks=False, **options).run
    except IncompleteRun as incomplete:
        run = load_run(incomplete.path)
    except InputError:
        return {}
    accounts = {}
    for row in run.rows:
        counts = run.counts_of(row.case) if row.case.attack in attacks else {}
        if row.case.subject.defence == name and counts.get("third_party_inputs"):
            accounts[row.case.attack] = counts["third_party_standing"] / counts["third_party_inputs"]
    return accounts


def updated(before: dict[str, Measured], measured: Sequence[Measured]) -> list[Measured]:
    """All entries in the order of the zoo, as measured now or else before; so is what third parties say."""
    now = {
        found.main.defence: found
        if found.accounts or found.main.defence not in before
        else dataclasses.replace(found, accounts=before[found.main.defence].accounts)
        for found in measured
    }
    return [{**before, **now}[name] for name in ZOO if name in now or name in before]


def main() -> None:
    parser = entries_parser(__doc__ or "")
    parser.add_argument("--no-third-party", action="store_true", help="our own verdicts alone")
    parser.add_argument(
        "--update", action="store_true", help="write reports/zoo; keep the other figures in it"
    )
    parser.add_argument("--tables", action="store_true", help="write reports/zoo again from its zoo.csv")
    options = parser.parse_args()
    if options.tables:
        _write(updated(measured_before((OUT / "zoo.csv").read_text()), ()))
        return
    measured = measured_entries(
        functools.partial(measure, third_party=not options.no_third_party), options, parser
    )
    if options.update:
        measured = updated(measured_before((OUT / "zoo.csv").read_text()), measured)
    elif options.names or options.no_third_party:
        print(report(measured))
        return
    _write(measured)


def _write(measured: Sequence[Measured]) -> None:
    write_text(OUT / "report.md", report(measured))
    write_text(OUT / DETAILS, details(measured))
    write_text(OUT / "zoo.csv", table(measured))
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
