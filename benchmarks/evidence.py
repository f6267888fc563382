"""The committed runs again, all from one commit (`make evidence`).

    python benchmarks/evidence.py                 lists runs, the minutes of their attacks, and which are done
    python benchmarks/evidence.py run [NAME ...]  these, or all, the cheapest first, in runs/evidence;
                                                  a stopped command goes on
    python benchmarks/evidence.py install         finished runs take the place of those in reports/

NAME is a folder of reports/ with a run.toml. The command refuses a tree with uncommitted changes, so that
run.json names the code behind the outcomes. `install` notes in reports/evidence.csv what changed; `make
rewrite` comes after it.
"""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.smoke import smoke
from robustbench_coded.runs.log import read_log

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "evidence"
TABLE = Path("evidence.csv")
COLUMNS = ("run", "commit", "minutes", "verdicts", "changed")
SUBJECT = ("checkpoint", "defence", "k", "n", "threat", "norm", "eps")


def main(command: str = "list", *names: str) -> None:
    reports = ROOT / "reports"
    if command == "run":
        run(reports, RUNS, names)
    elif command == "install":
        for folder in finished(reports, RUNS):
            print(*install(folder, reports / folder.relative_to(RUNS), reports / TABLE), sep=", ")
    else:
        done, known = finished(reports, RUNS), known_minutes(reports)
        for name in by_cost(reports):
            state = "done" if RUNS / name in done else ""
            print(f"{known.get(name, math.nan):7.1f} minutes of attacks  {name}  {state}")


def run(reports: Path, runs: Path, names: tuple[str, ...]) -> None:
    """Evaluates what is not finished yet.

    Raises:
        SystemExit: the tree has uncommitted changes, or a name is no run of ``reports``.
    """
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if changes:
        raise SystemExit(f"commit or stash these first, since runs name their commit:\n{changes.rstrip()}")
    known = by_cost(reports)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no run.toml in reports/ for {', '.join(unknown)}; choose from {', '.join(known)}")
    done = finished(reports, runs)
    for name in names or known:
        if runs / name in done:
            continue
        # run.json keeps the command, so the folder is named from the root.
        out = os.path.relpath(runs / name, ROOT)
        made = subprocess.run(["make", "report", f"NAME={name}", f"OUT={out}"], cwd=ROOT)
        if made.returncode:
            print(f"{name}: {made.args[0]} ended with {made.returncode}", flush=True)


def by_cost(reports: Path) -> list[str]:
    """Runs in ``reports``, the cheapest first by what their table says."""
    names = [path.parent.relative_to(reports).as_posix() for path in reports.glob("**/run.toml")]
    known = known_minutes(reports)
    return sorted(names, key=lambda name: (known.get(name, math.inf), name))


def known_minutes(reports: Path) -> dict[str, float]:
    """Minutes of attacks by run, of those in the table of runs."""
    table = reports / TABLE
    rows = csv.DictReader(table.read_text().splitlines()) if table.exists() else ()
    return {row["run"]: float(row["minutes"]) for row in rows}


def minutes(folder: Path) -> float:
    """Minutes that the attacks of a finished run took, one after the other."""
    return sum(unit.timing.get("seconds", 0) for unit in read_log(folder).done.values()) / 60


def finished(reports: Path, runs: Path) -> list[Path]:
    """Finished folders of ``runs`` that belong to a run of ``reports``."""
    return [runs / name for name in by_cost(reports) if (runs / name / "run.json").exists()]


def install(new: Path, old: Path, table: Path) -> tuple[str, ...]:
    """Puts a finished run in the place of a committed one, with the same kinds of files. Returns a row of
    ``table``: changed verdicts as ``subject: before -> after``.
    """
    name, before, after = str(old.relative_to(table.parent)), verdicts(old), verdicts(new)
    changed = [
        f"{' '.join(filter(None, subject))}: {before.get(subject, 'none')} -> {after.get(subject, 'none')}"
        for subject in {**before, **after}
        if before.get(subject) != after.get(subject)
    ]
    commits = {at["git"]["commit"] for at in manifest(new)["invocations"]}
    row = (
        name, " ".join(sorted(commits)), f"{minutes(new):.1f}", str(len(after)), "; ".join(changed)
    )  # fmt: skip
    kinds = {path.name for path in old.iterdir() if not path.match("run*.toml")}
    for kind in kinds:
        path, fresh = old / kind, new / kind
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if fresh.is_dir():
            shutil.copytree(fresh, path)
        elif fresh.exists():
            shutil.copy(fresh, path)
    write_row(row, table)
    return row


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def verdicts(folder: Path) -> dict[tuple[str, ...], str]:
    with (folder / "verdicts.csv").open() as file:
        return {tuple(row[name] for name in SUBJECT): row["verdict"] for row in csv.DictReader(file)}


def write_row(row: tuple[str, ...], table: Path) -> None:
    """Writes ``row`` in the place of an older one of the same run."""
    rows = list(csv.reader(table.open())) if table.exists() else [list(COLUMNS)]
    kept = [line for line in rows[1:] if line[0] != row[0]]
    with table.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([rows[0], *sorted([*kept, list(row)])])


if __name__ == "__main__":
    smoke("list")
    main(*sys.argv[1:])
