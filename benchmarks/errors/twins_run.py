"""Honest defences and their broken twins under the plain command, and what each objection did to them.

    python benchmarks/errors/twins_run.py FOLDER SEED [KIND ...]   judges both of each pair into FOLDER
    python benchmarks/errors/twins_run.py FOLDER   the table of all that was judged there

What was judged before is not judged again.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.errors.twins import PAIRS, make
from benchmarks.errors.zoo_judged import EvaluatedEntry, evaluate_known
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.atomic import write_text


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


def table(folder: Path) -> str:
    """What was judged, a line each."""
    lines = [
        "| defence | threat | truth | left | verdict | fair | s |",
        "| --- | --- | --- | --- | --- | --- | ---: |",
    ]
    for path in sorted(folder.glob("*.json")):
        for one in json.loads(path.read_text()):
            truth = " to ".join(f"{100 * end:.1f}" for end in dict.fromkeys(one["truth"]))
            low, estimate, high = (f"{100 * end:.1f}" for end in one["left"])
            cells = (one["name"], one["threat"], truth, f"{estimate} [{low}, {high}]", one["verdict"])
            lines.append(f"| {' | '.join(cells)} | {'yes' if one['fair'] else 'NO'} | {one['seconds']:.0f} |")
    return "\n".join(lines)


def main(folder: Path, seed: str = "", *kinds: str) -> None:
    """Judges what is named, or prints the table."""
    if not seed:
        print(table(folder))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds or PAIRS:
        for fragile in (False, True):
            judged(kind, int(seed), folder, fragile=fragile)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
