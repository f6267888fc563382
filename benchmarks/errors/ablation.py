"""Verdicts that change where one rung of the protocol is left out, on defences of known truth.

    python benchmarks/errors/ablation.py [NAME ...]   judges these, or all of ENTRIES into
        reports/zoo/ablation.csv

Each defence is evaluated once by the whole protocol and once without each rung but *clean*, in one run
folder, so that no attack runs twice. Without *self-tests* the checks read none. Twins are named KIND/SEED or
KIND/SEED-twin.
"""

import csv
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.errors import twins
from benchmarks.smoke import smoke
from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.protocol.rungs import RUNGS
from robustbench_coded.evaluation.session.driver import run_steps
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.planning import planned_evaluation
from robustbench_coded.evaluation.session.recording import Recorder
from robustbench_coded.evaluation.session.run_plan import Work
from robustbench_coded.evaluation.session.selftesting import with_selftests
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.folder import RunFolder
from zoo.known import Known
from zoo.registry import ZOO, ZooEntry

OUT = Path(__file__).parents[2] / "reports" / "zoo" / "ablation.csv"
# Of several families those that a rung is there for, encodings, and honest ones beside them.
SEED = 41186  # drawn for the twins below
ENTRIES = (
    *("rounding", "shattered", "lifted-0.1", "one-hot-0.2", "hidden-direction", "saturated-wide"),
    *("other-base-0.1", "wrong-base-weak", "coin-flip", "random-slope", "ensemble-decoys"),
    *("ensemble-opposed", "members-together", "members-apart", "sines", "off-grid", "off-lattice"),
    *("one-hot-0.1", "one-hot-0.3", "pinned-0.1", "sines-again", "bumps", "slopes", "levels"),
    *("sines-noise", "bumps-noise", "sines-scaled", "slopes-scaled"),
    *(
        f"{kind}/{SEED}{fragile}"
        for kind in ("quantised", "coin", "noise", "members", "shuffled", "batch-coin", "refitted")
        for fragile in ("", "-twin")
    ),
)
HEADER = ("defence", "threat", "left_out", "verdict", "verdict_without")


def entry_named(name: str) -> tuple[ZooEntry, Known]:
    """An entry of the zoo or a twin, with its network and data."""
    kind, _, seed = name.partition("/")
    if not seed:
        return ZOO[name], ZOO[name].load(None)
    return twins.make(kind, int(seed.removesuffix("-twin")), fragile=seed.endswith("-twin"))


def changed_verdicts(entry: ZooEntry, known: Known, folder: Path) -> list[tuple[str, ...]]:
    """A row for each verdict that changes, as in HEADER; a single one without a verdict where none does."""
    config = EvalConfig(checkpoints=(), out=folder, threads=1)
    prepared, path = made_ready(*entry.brings(config, known))
    evaluation = planned_evaluation(prepared, None, path)
    tested = replace(evaluation, prepared=with_selftests(evaluation.prepared))
    names = [rung.name for rung in RUNGS]
    verdicts = {}
    with RunFolder(path) as opened, Engine(prepared.context) as engine:
        first = Recorder(tested, opened, Listener())
        for left_out in ("", *names[1:]):
            own = evaluation if left_out == "self-tests" else tested
            rungs = tuple(name for name in names if name != left_out or name == "self-tests")
            recorder = Recorder(replace(own, plan=replace(own.plan, rungs=rungs)), opened, Listener())
            recorder.done, recorder.store = first.done, first.store
            work = Work(engine, opened, own.prepared, first.done, first.store, Listener())
            made = run_steps(recorder, work).verdicts
            verdicts[left_out] = {case: verdict.name for case, verdict in made.items()}
    rows: list[tuple[str, ...]] = [
        (entry.name, str(case.threat), rung, str(verdict), str(verdicts[rung].get(case, "no verdict")))
        for case, verdict in verdicts[""].items()
        for rung in names[1:]
        if case.subject.defence == entry.name and verdicts[rung].get(case) != verdict
    ]
    return rows or [(entry.name, "", "", "", "")]


def main(*names: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for name in names or ENTRIES:
        with tempfile.TemporaryDirectory() as folder:
            rows = changed_verdicts(*entry_named(name), Path(folder) / "run")
        writer.writerows(rows)
        print(*(",".join(row) for row in rows), sep="\n", flush=True)
        if not names:
            write_text(OUT, text.getvalue())


if __name__ == "__main__":
    smoke("rounding")
    main(*sys.argv[1:])
