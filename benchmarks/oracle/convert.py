"""Runs of format 2, packed or not, as runs of format 3: python -m benchmarks.oracle.convert RUN ...

What the older format kept in many files goes into the log and one file of outcomes. Tables and reports are
left to `csrobust report`.
"""

import json
import shutil
import sys
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_coded.runs import log, outcomes
from robustbench_coded.runs.adversarials import put_together
from robustbench_coded.runs.folder import RunFolder, content_of
from robustbench_coded.runs.outcomes import SCHEMA, TOGETHER

GONE = (
    "outcomes",
    "timings",
    "failures",
    "selftests",
    "figures",
    "steps.jsonl",
    "timings.csv",
    "details.md",
    "pictures",
    ".lock",
)


def convert(run: Path) -> None:
    """One run folder, in place."""
    facts = json.loads((run / "run.json").read_text())
    if facts["format_version"] != 2:
        return
    units, timings = _units(run), _objects(run / "timings")
    events: list[log.Event] = [log.Tested(name, found) for name, found in _objects(run / "selftests").items()]
    steps = run / "steps.jsonl"
    events += (
        [log.Stepped(json.loads(line)) for line in steps.read_text().splitlines()] if steps.exists() else []
    )
    for failed, record in _objects(run / "failures").items():
        events.append(log.Failed(failed, **record))
    rows = {}
    cases = facts["cases"]
    order = [unit for case in cases for unit in (*case["units"], *case.get("random_batches", ()))]
    for unit in dict.fromkeys(order):
        if unit in units:
            rows[unit], metadata = units[unit]
            del metadata["unit"]
            content = content_of(outcomes.digest_of(rows[unit]), unit, metadata)
            events.append(log.Done(unit, content, metadata, timings.get(unit, {})))
    for name in GONE:
        entry = run / name
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
    outcomes.write_units(run / TOGETHER, rows, outcomes.LEVEL_TOGETHER)
    (run / log.NAME).unlink(missing_ok=True)
    log.append(run, events)
    with RunFolder(run) as folder:
        folder.write_manifest({name: value for name, value in facts.items() if name != "format_version"})
    (run / ".lock").unlink()
    put_together(run, list(rows))


def _units(run: Path) -> dict[str, tuple[pa.Table, dict[str, Any]]]:
    """Rows and metadata by unit."""
    units = {}
    for file in sorted((run / "outcomes").glob("*.parquet")):
        table = pq.read_table(file)
        stored = table.schema.metadata or {}
        if packed := stored.get(b"csrobust-packed"):
            entries, start = json.loads(zlib.decompress(b64decode(packed))), 0
            for entry in entries:
                own = table.slice(start, entry["rows"])
                units[entry["metadata"]["unit"]] = (_rows(own), entry["metadata"])
                start += entry["rows"]
        else:
            metadata = json.loads(stored[b"csrobust"])
            del metadata["content"]
            units[metadata["unit"]] = (_rows(table), metadata)
    return units


def _rows(table: pa.Table) -> pa.Table:
    return outcomes.alone(table.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata())


def _objects(folder: Path) -> dict[str, Any]:
    """The objects of a folder, in files of their own or packed, by name."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text())
        found |= content if file.stem == "packed" else {file.stem: content}
    return found


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        convert(given)
