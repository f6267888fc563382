"""csrobust beside other tools on defences of known truth. Writes reports/soundness.

    python -m benchmarks.soundness FOLDER --seed N            every instance, then reports/soundness
    python -m benchmarks.soundness FOLDER --seed N NAME ...   these instances alone, no report

FOLDER keeps a run and a JSON file for each instance, so a stopped command goes on.
Freeze attacks and verdicts before drawing a seed.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.errors.zoo_judged import evaluate_known, gradient_evaluations
from benchmarks.smoke import smoke
from benchmarks.soundness.instances import BATCH, INSTANCES, Instance, make
from benchmarks.soundness.report import OURS, Row, page, rows_of, table
from benchmarks.soundness.tools import TOOLS, account, missing_tools
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.log import NAME
from robustbench_coded.schema.words import COMBINED

OUT = Path(__file__).parents[2] / "reports" / "soundness"


def evaluate_protocol(instance: Instance, out: Path) -> Row:
    """The plain command's verdict on an instance, at batches of 32."""
    started = time.process_time()
    try:
        evaluated = evaluate_known(instance.entry, instance.known, out, threads=1, batch_size=(BATCH,))
        finding = evaluated.findings[0]
    except IncompleteRun as incomplete:
        raise SystemExit(f"{instance.name}: attacks failed; see {incomplete.path}") from incomplete
    seconds = time.process_time() - started
    summary = evaluated.run.summary
    own = summary[(summary["threat"] == "batch/unknown") & ~summary["attack"].isin(COMBINED)]
    spent = gradient_evaluations(own)
    own = own[own["eps"] == instance.entry.eps]  # no checks at larger budgets
    strongest = str(own.sort_values("accuracy", kind="stable")["attack"].iloc[0])
    assert finding.low is not None and finding.estimate is not None and finding.high is not None
    return Row(
        instance.name, OURS, instance.truth, finding.estimate, finding.low, finding.high, finding.verdict,
        strongest, spent, seconds, rung_of(evaluated.run.path, strongest),
    )  # fmt: skip


def rung_of(path: Path, attack: str) -> str:
    """The rung of the protocol in which an attack first ran."""
    lines = map(json.loads, (path / NAME).read_text(encoding="utf-8").splitlines())
    steps = [line["need"] for line in lines if line["event"] == "step"]
    ran = ((step["rung"], {at["case"]["attack"] for at in step.get("cases", ())}) for step in steps if step)
    return next(rung for rung, attacks in ran if attack in attacks)


def evaluate_instance(name: str, seed: int, folder: Path, tools: Sequence[str]) -> list[Row]:
    """csrobust and these tools on one instance, from FOLDER where they have been run before."""
    stored = folder / f"{name}.json"
    rows = rows_of(stored.read_text()) if stored.exists() else []
    done = {row.tool for row in rows}
    if done >= {OURS, *tools}:
        return rows
    instance = make(name, seed)
    if OURS not in done:
        rows.append(evaluate_protocol(instance, folder / name))
        write_rows(stored, rows)
    for tool in tools:
        if tool not in done:
            rows.append(Row.of(instance, tool, account(tool, instance, rows[0].gradients)))
            write_rows(stored, rows)
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    write_text(path, json.dumps([asdict(row) for row in rows], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(INSTANCES)}")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--alone", action="store_true", help="Run csrobust alone and leave tools as they are."
    )
    parser.add_argument("--tables", action="store_true", help="Write the report from FOLDER; run nothing.")
    options = parser.parse_intermixed_args()
    folder = options.folder / str(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    tools = () if options.alone else tuple(tool for tool in TOOLS if tool not in missing_tools())
    for name in options.names or INSTANCES:
        if options.tables:
            stored = folder / f"{name}.json"
            rows += rows_of(stored.read_text()) if stored.exists() else []
            continue
        rows += evaluate_instance(name, options.seed, folder, tools)
        print(f"{time.process_time():6.0f} s  {name}", flush=True)
    if not options.names:
        absent = [tool for tool in TOOLS if tool not in {row.tool for row in rows}]
        OUT.mkdir(parents=True, exist_ok=True)
        write_text(OUT / "report.md", page(rows, options.seed, absent))
        write_text(OUT / "soundness.csv", table(rows))


if __name__ == "__main__":
    smoke("FOLDER bare-m2 --seed 1 --alone")
    main()
