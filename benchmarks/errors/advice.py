"""Open verdicts on defences of known truth, followed by the next step that each report prints.

    python benchmarks/errors/advice.py FOLDER [NAME | KIND-SEED[-twin] ...]   evaluates and follows these
    python benchmarks/errors/advice.py FOLDER   writes reports/zoo/advice.csv from all that was followed there

Names are entries of the zoo, or one of a pair of `twins.py`. At most three commands run, each as the report
prints it, in the folder that it names and for at most five minutes. What was followed before does not run
again.
"""

import csv
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import robustbench_coded
from benchmarks.errors.twins import make
from benchmarks.errors.zoo_judged import EvaluatedEntry, Finding
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.judge.run import Run, load_run
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.runs.atomic import write_text
from zoo.known import Known
from zoo.registry import ZOO, ZooEntry

OUT = Path(__file__).parents[2] / "reports" / "zoo" / "advice.csv"
MOST_COMMANDS, SECONDS, LONG = 3, 300.0, "stopped after five minutes"
COLUMNS = (
    *("defence", "truth_low", "truth_high", "before", "accuracy_before", "commands", "after"),
    *("accuracy_after", "outcome", "gradients_before", "gradients_after", "ended"),
)


class State(NamedTuple):
    """The main verdict of a run, and the gradient evaluations that the run has cost."""

    finding: Finding
    gradients: float

    @staticmethod
    def of(run: Run, entry: ZooEntry, known: Known) -> "State":
        counts = [run.counts_of(case.case) for case in run.manifest.cases]
        # A forward counts a third of a gradient evaluation, a backward the rest.
        thirds = sum(count.get("forwards", 0) + 2 * count.get("backwards", 0) for count in counts)
        return State(EvaluatedEntry(entry, known, run).findings[0], thirds / 3)


def outcome_of(finding: Finding) -> str:
    """Praise whose whole interval lies above the truth is wrong, too."""
    if finding.sense == "open":
        return "open"
    too_high = finding.sense == "positive" and (finding.low or 0.0) > finding.truth.high
    return "right" if finding.fair and not too_high else "wrong"


def follow(name: str, entry: ZooEntry, known: Known) -> list[str]:
    """Evaluates a defence with default settings, then as its reports advise. Returns a row of the table."""
    run = robustbench_coded.evaluate(
        defences=name, out=f"reports/{name}", listener=Listener(), threads=1, time=SECONDS
    )
    before = after = State.of(run, entry, known)
    commands: list[str] = []
    ended = "" if run.manifest.finished else LONG
    while not ended and after.finding.sense == "open" and len(commands) < MOST_COMMANDS:
        command = opening_of(run).next.command
        if not command:
            ended = opening_of(run).next.purpose
            break
        commands.append(command)
        try:
            run = eval(command, {"run": run})
        except IncompleteRun as incomplete:
            run, ended = load_run(incomplete.path), "attacks failed"
        except InputError as refusal:
            ended = f"refused: {refusal}"
        after = State.of(run, entry, known)
        ended = ended or ("" if run.manifest.finished else LONG)
    truth, (was, first), (now, last) = after.finding.truth, before, after
    return [
        *(name, f"{truth.low:.4f}", f"{truth.high:.4f}", was.verdict, f"{was.estimate:.4f}"),
        *("; ".join(commands), now.verdict, f"{now.estimate:.4f}", outcome_of(now)),
        *(f"{first:.0f}", f"{last:.0f}", ended),
    ]


def known_by(name: str) -> tuple[ZooEntry, Known]:
    """An entry of the zoo, or one of a pair."""
    if name in ZOO:
        return ZOO[name], ZOO[name].load()
    kind, seed, *twin = name.removesuffix("-twin").rsplit("-", 1) + ["twin"] * name.endswith("-twin")
    return make(kind, int(seed), fragile=bool(twin))


def main(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # commands name folders below reports/
    for name in names:
        if not (row := Path(f"{name}.json")).exists():
            write_text(row, json.dumps(follow(name, *known_by(name))))
        print(*json.loads(row.read_text()), sep=" | ", flush=True)
    if not names:
        rows = [json.loads(path.read_text()) for path in sorted(Path().glob("*.json"))]
        with OUT.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
