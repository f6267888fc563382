"""The committed runs again, all from one commit (`make evidence`).

    python benchmarks/evidence.py                  lists runs, minutes of their attacks, and which are done
    python benchmarks/evidence.py run [NAME ...]   these, or all, the cheapest first, in runs/evidence;
                                                   a stopped command goes on
    python benchmarks/evidence.py report NAME OUT  this one, in OUT (`make report`)
    python benchmarks/evidence.py install          finished runs take the place of those in reports/

NAME is a folder of reports/ with a run.toml, or a run of a runs.toml there. Of the latter, reports/ has the
options, and the rows and reports of all runs together. `run` refuses a tree with uncommitted changes, so that
run.json names the code behind the outcomes. `install` notes in reports/evidence.csv what changed, with the
hashes of both tables, and the minutes that its attacks took; `make rewrite` comes after it.
"""

import csv
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.smoke import smoke
from robustbench_coded.runs.log import read_log

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
RUNS = ROOT / "runs" / "evidence"
TABLE = Path("evidence.csv")
COLUMNS = ["run", "commit", "protocol", "minutes", "verdicts", "changed", "summary_sha256", "verdicts_sha256"]
TABLES = ("summary.csv", "verdicts.csv")
TOGETHER = "runs.toml"  # the options of several runs, beside their tables and reports in one
SUBJECT = ("checkpoint", "defence", "k", "n", "threat", "norm", "eps")
SHARED = "../shared/checkpoints"  # where the options look for networks that are not in this repository
OTHERS = ROOT / "benchmarks" / "networks" / "others.csv"  # their files: published as, licence, sha256


def main(command: str = "list", *names: str) -> None:
    if command == "run":
        run(REPORTS, RUNS, names)
    elif command == "report":
        sys.exit(report(REPORTS, *names))
    elif command == "install":
        for folder in finished(REPORTS, RUNS):
            print(*install(folder, folder.relative_to(RUNS).as_posix(), REPORTS), sep=", ")
    else:
        done, known = finished(REPORTS, RUNS), known_minutes(REPORTS)
        for name in by_cost(REPORTS):
            state = "done" if RUNS / name in done else ""
            print(f"{known.get(name, math.nan):7.1f} minutes  {name}  {state}")


def run(reports: Path, runs: Path, names: tuple[str, ...]) -> None:
    """Evaluates what is not finished yet.

    Raises:
        SystemExit: the tree has uncommitted changes, or a name is no run of ``reports``.
    """
    if changes := subprocess.getoutput(f"git -C '{ROOT}' status --porcelain --untracked-files=no"):
        raise SystemExit(f"commit or stash these first, since runs name their commit:\n{changes}")
    for name in names:
        options_of(reports, name)
    done = finished(reports, runs)
    for name in names or by_cost(reports):
        if runs / name in done:
            continue
        if absent := lacking(*options_of(reports, name)):
            print(f"{name} is left out: {absent}", flush=True)
        # run.json keeps the command, so the folder is named from the root.
        elif code := report(reports, name, os.path.relpath(runs / name, ROOT)):
            print(f"{name}: csrobust ended with {code}", flush=True)


def lacking(*options: str) -> str:
    """Which networks of others to put where, in a line; '' where all that the options name are there."""
    return "; ".join(
        f"put {network['published as']} (sha256 {network['sha256']}) at {SHARED}/{network['file']}"
        for network in read(OTHERS)
        if f"{SHARED}/{network['file']}" in " ".join(options)
        and not is_file(ROOT / SHARED / network["file"], network["sha256"])
    )


def is_file(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def report(reports: Path, name: str, out: str) -> int:
    """Evaluates a run into ``out``, its commands one after the other. Returns the exit code of the last."""
    files = own_files(reports / name)
    for place, options in enumerate([] if files else options_of(reports, name)):
        files.append(ROOT / f"{out}-{place}.toml")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(options)
    csrobust = str(Path(sys.executable).with_name("csrobust"))
    for path in files:  # run.json keeps the command
        command = [csrobust, "eval", os.path.relpath(path, ROOT), "--out", out]
        if code := subprocess.run(command, cwd=ROOT).returncode:
            return code
    return 0


def own_files(folder: Path) -> list[Path]:
    """The options of each command of a run with a folder of its own, the last one last."""
    return sorted([*folder.glob("run-*.toml"), *folder.glob("run.toml")])


def options_of(reports: Path, name: str) -> list[str]:
    """The options of each command of a run, as files of `csrobust eval`, the last one last.

    Raises:
        SystemExit: it is no run of ``reports``.
    """
    if own := own_files(reports / name):
        return [path.read_text() for path in own]
    options = [text for path in together(reports) for run, text in sections(path) if run == name]
    if not options:
        raise SystemExit(
            f"no options in {reports.name}/ for {name}; choose from {', '.join(by_cost(reports))}"
        )
    return options


def together(reports: Path) -> list[Path]:
    """The files with the options of several runs."""
    return sorted(reports.glob(f"*/{TOGETHER}"))


def sections(path: Path) -> list[tuple[str, str]]:
    """Name and options of each command in such a file."""
    return re.findall(r'^\[\["([^"]+)"\]\]\n(.*?)\n*(?=^\[\[|\Z)', path.read_text(), re.MULTILINE | re.DOTALL)


def shared_folder(reports: Path, name: str) -> Path | None:
    """The folder that holds a run together with others; None for one with a folder of its own."""
    return next((path.parent for path in together(reports) if name in dict(sections(path))), None)


def rows_of(name: str, table: str = "verdicts", reports: Path = REPORTS) -> list[dict[str, str]]:
    """The rows of a table (``summary`` or ``verdicts``) of a committed run, with its name as ``run``."""
    shared = shared_folder(reports, name)
    rows = read((shared or reports / name) / f"{table}.csv")
    return [row for row in ({"run": name, **row} for row in rows) if row["run"] == name]


def page_of(name: str, reports: Path = REPORTS) -> str:
    """The report of a committed run, relative to ``reports``: a page, or a heading on one."""
    shared, anchor = shared_folder(reports, name), Path(name).name.replace(".", "")
    return f"{name}/report.md" if shared is None else f"{shared.name}/report.md#{anchor}"


def by_cost(reports: Path) -> list[str]:
    """Runs in ``reports``, the cheapest first by what their table says."""
    names = [path.parent.relative_to(reports).as_posix() for path in reports.glob("*/run.toml")]
    names += dict.fromkeys(name for path in together(reports) for name, _ in sections(path))
    known = known_minutes(reports)
    return sorted(names, key=lambda name: (known.get(name, math.inf), name))


def committed(reports: Path = REPORTS, runs: Path = RUNS) -> dict[str, Path]:
    """The committed runs whose outcomes are here, by name: whole ones, and others made again in ``runs``."""
    places = [(name, folder / name) for name in sorted(by_cost(reports)) for folder in (runs, reports)]
    return {name: path for name, path in places if (path / "run.json").exists()}


def known_minutes(reports: Path) -> dict[str, float]:
    """Minutes of attacks by run, of those in the table of runs."""
    rows = read(reports / TABLE) if (reports / TABLE).exists() else []
    return {row["run"]: float(row["minutes"]) for row in rows}


def minutes(folder: Path) -> float:
    """Minutes that the attacks of a finished run took, one after the other."""
    return sum(unit.timing.get("seconds", 0) for unit in read_log(folder).done.values()) / 60


def finished(reports: Path, runs: Path) -> list[Path]:
    """Finished folders of ``runs`` that belong to a run of ``reports``."""
    begun = [file for name in by_cost(reports) if (file := runs / name / "run.json").exists()]
    return [file.parent for file in begun if json.loads(file.read_text())["finished"]]


def install(new: Path, name: str, reports: Path) -> tuple[str, ...]:
    """Puts a finished run in the place of a committed one, with the same kinds of files, or its rows and
    report among those of the runs it is together with. Returns its row of evidence.csv: changed verdicts
    as ``subject: before -> after``.

    Raises:
        SystemExit: a command ran with uncommitted changes.
    """
    told = json.loads((new / "run.json").read_text())
    checkouts = [at["git"] for at in told["invocations"]]
    if any(at["dirty"] is not False for at in checkouts):
        raise SystemExit(f"{new}: run.json names uncommitted changes; run it again")
    before, after = verdicts(rows_of(name, "verdicts", reports)), verdicts(read(new / "verdicts.csv"))
    changed = [
        f"{' '.join(filter(None, subject))}: {before.get(subject, 'none')} -> {after.get(subject, 'none')}"
        for subject in {**before, **after}
        if before.get(subject) != after.get(subject)
    ]
    row = (
        name,
        " ".join(sorted({at["commit"] for at in checkouts})),
        str(told.get("protocol", {}).get("version", "")),
        f"{minutes(new):.1f}",
        str(len(after)),
        "; ".join(changed),
        *(hashlib.sha256((new / table).read_bytes()).hexdigest() for table in TABLES),
    )
    shared = shared_folder(reports, name)
    if shared is None:
        replace(new, reports / name)
    else:
        put_together(new, name, shared)
    write_row(row, reports)
    return row


def replace(new: Path, old: Path) -> None:
    """Puts the files of a run in the place of those of a committed one."""
    for path in [path for path in old.iterdir() if not path.match("run*.toml")]:
        path.unlink()
        if (new / path.name).exists():
            lines = (new / path.name).read_bytes().splitlines(keepends=True)
            # Of a log, what run.json was to say while its run went on is left out.
            path.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"event":"changed"')))


def put_together(new: Path, name: str, shared: Path) -> None:
    """Puts the rows and the report of a run among those of the others in ``shared``, in their order."""
    order = list(dict.fromkeys(run for run, _ in sections(shared / TOGETHER)))
    for table in TABLES:
        before = read(shared / table) if (shared / table).exists() else []
        rows = [row for row in before if row["run"] in order and row["run"] != name]
        rows += [{"run": name, **row} for row in read(new / table)]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (shared / table).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: order.index(row["run"])))
    page, own = shared / "report.md", Path(name).name
    start, *parts = page.read_text().split("\n## ")
    reports = {part.partition("\n")[0]: part for part in parts}
    title, _, text = (new / "report.md").read_text().partition("\n")
    text = text.replace(f"runs/evidence/{name}", f"runs/reports/{name}")  # where make report leaves it
    command = f"## Reproduce\n\n```\nmake report NAME={name}\n```"
    text = re.sub(r"^## Reproduce\n\n```\n.*?\n```", command, text, flags=re.MULTILINE | re.DOTALL)
    deeper = re.sub(r"^(?=##)", "#", text, flags=re.MULTILINE)
    reports[own] = f"{own}\n\n**{title.removeprefix('# ')}**\n{deeper}"
    known = [reports[run] for run in (Path(name).name for name in order) if run in reports]
    page.write_text("\n\n## ".join(part.strip() for part in (start, *known)) + "\n")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def verdicts(rows: list[dict[str, str]]) -> dict[tuple[str, ...], str]:
    return {tuple(row[name] for name in SUBJECT): row["verdict"] for row in rows}


def write_row(row: tuple[str, ...], reports: Path) -> None:
    """Writes ``row`` in the place of an older one of the same run. Rows of runs that are gone go, too."""
    table, names = reports / TABLE, by_cost(reports)
    heads, *rows = csv.reader(table.open()) if table.exists() else [COLUMNS]
    rows = [line for line in rows if line[0] in names and line[0] != row[0]]
    with table.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *sorted([*rows, list(row)])])


if __name__ == "__main__":
    smoke("list")
    main(*sys.argv[1:])
