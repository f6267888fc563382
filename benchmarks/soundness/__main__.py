"""csrobust beside other tools on defences of known truth. Writes reports/soundness.

    python -m benchmarks.soundness FOLDER --seed N             evaluates every instance, goes on where it stopped, writes the report
    python -m benchmarks.soundness FOLDER --seed N NAME ...    these instances alone; writes no report

FOLDER keeps a run and a JSON file for each instance. Freeze attacks and verdicts before drawing a seed.
"""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.errors.zoo_judged import evaluate_known
from benchmarks.soundness.instances import BATCH, INSTANCES, Instance, make
from benchmarks.soundness.report import Row, page, rows_of, table
from benchmarks.soundness.tools import TOOLS, account, missing_tools
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parents[2] / "reports" / "soundness"


def evaluate_protocol(instance: Instance, out: Path) -> Row:
    """The plain command's verdict on an instance, at batches of 32."""
    started = time.process_time()
    try:
        evaluated = evaluate_known(instance.entry, instance.known, out, threads=1, batch_size=(BATCH,))
        run, finding = evaluated.run, evaluated.findings[0]
    except IncompleteRun as incomplete:
        raise SystemExit(f"{instance.name}: attacks failed; see {incomplete.path}") from incomplete
    seconds = time.process_time() - started
    summary = load_run(out).summary
    own = summary[(summary["threat"] == "batch/unknown") & ~summary["attack"].isin(["ensemble", "strongest"])]
    spent = own["forwards_per_example"].sum() + 2 * own["backwards_per_example"].sum()
    assert finding.low is not None and finding.estimate is not None and finding.high is not None
    return Row(
        instance=instance.name, tool="csrobust", truth=instance.truth, accuracy=finding.estimate, low=finding.low,
        high=finding.high, verdict=finding.verdict, strongest=_strongest(run.summary), gradients=spent / 3, seconds=seconds,
    )  # fmt: skip


def _strongest(summary) -> str:  # type: ignore[no-untyped-def]
    """The attack whose own row under `batch/unknown` has the least accuracy."""
    rows = summary[(summary["threat"] == "batch/unknown") & ~summary["attack"].isin(["ensemble", "strongest"])]
    return str(rows.sort_values("accuracy", kind="stable")["attack"].iloc[0])


def evaluate_instance(name: str, seed: int, folder: Path) -> list[Row]:
    """csrobust and every tool on one instance, from FOLDER where they have been run before."""
    stored = folder / f"{name}.json"
    rows = rows_of(stored.read_text()) if stored.exists() else []
    done = {row.tool for row in rows}
    instance = make(name, seed)
    if "csrobust" not in done:
        rows.append(evaluate_protocol(instance, folder / name))
    for tool in TOOLS:
        if tool not in done and tool not in missing_tools():
            rows.append(Row.of(instance, tool, account(tool, instance, rows[0].gradients)))
        write_text(stored, json.dumps([asdict(row) for row in rows], indent=1))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(INSTANCES)}")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    folder = options.folder / str(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.names or INSTANCES:
        rows += evaluate_instance(name, options.seed, folder)
        print(f"{time.process_time():6.0f} s  {name}", flush=True)
    if not options.names:
        OUT.mkdir(parents=True, exist_ok=True)
        write_text(OUT / "report.md", page(rows, options.seed, missing_tools()))
        write_text(OUT / "soundness.csv", table(rows))


if __name__ == "__main__":
    main()
