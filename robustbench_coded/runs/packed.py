"""A finished run in few files: the outcomes of all units in one Parquet file, their timings in another.

A run is written as one file per unit, so that nothing finished is ever written twice. Once it is finished,
hundreds of small files are of no use. Packed outcomes keep the columns of outcome files, and the metadata and
content hash of each unit. A run folder that is opened for writing is unpacked first.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_bytes, write_text
from robustbench_coded.runs.outcomes import (
    METADATA_KEY,
    SCHEMA,
    DamagedFile,
    as_first_met,
    content_hash,
    encoded,
    read_table,
    write_outcomes,
)  # fmt: skip

OUTCOMES = Path("outcomes") / "packed.parquet"
TIMINGS = Path("timings") / "packed.json"
MAX_FILE_BYTES = 4 << 30
MAX_ROWS = 1_000_000_000


def pack(path: Path) -> int:
    """Puts the files of a run's units into two; gives the number of units. The folder must be locked.

    Raises:
        InputError: an outcome file is damaged; nothing is changed.
    """
    files = sorted(file for file in (path / "outcomes").glob("*.parquet") if file != path / OUTCOMES)
    tables, units = [], []
    for file in files:
        try:
            rows, metadata = read_table(file)
        except DamagedFile as error:
            raise InputError(f"{file}: {error}; the command of the run computes it again") from error
        units.append({"metadata": metadata, "rows": len(rows), "content": content_hash(rows, metadata)})
        tables.append(rows)
    if not tables:
        return 0
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    said = {METADATA_KEY: json.dumps({"packed": units}, sort_keys=True).encode()}
    timings = {file.stem: _json(path / "timings" / f"{file.stem}.json") for file in files}
    lines = [f"{json.dumps(unit)}: {json.dumps(found, sort_keys=True)}" for unit, found in timings.items()]
    write_text(path / TIMINGS, "{\n" + ",\n".join(lines) + "\n}\n")
    write_bytes(path / OUTCOMES, encoded(table.replace_schema_metadata(said)))
    for file in files:
        file.unlink()
        (path / "timings" / f"{file.stem}.json").unlink(missing_ok=True)
    return len(files)


def unpack(path: Path) -> None:
    """Gives every packed unit its own files again; a unit that is damaged, or has newer files, is left out.

    The folder must be locked. A file that can't be read at all is renamed, and its units are computed again.
    """
    file = path / OUTCOMES
    if not file.is_file():
        return
    try:
        found, timings = packed_units(path), packed_timings(path)
    except DamagedFile:
        file.replace(file.with_name(file.name + ".damaged"))
        return
    for unit, (rows, metadata) in found.items():
        own = path / "outcomes" / f"{unit}.parquet"
        if own.exists():
            continue
        timing = json.dumps(timings.get(unit, {}), sort_keys=True)
        write_text(path / "timings" / f"{unit}.json", f"{timing}\n")
        write_outcomes(own, rows, metadata)
    file.unlink()
    (path / TIMINGS).unlink(missing_ok=True)


def packed_units(path: Path, wanted: Iterable[str] | None = None) -> dict[str, tuple[pa.Table, dict]]:
    """Rows and metadata of packed units, each checked against its hash; those that fail it are left out.

    Raises:
        DamagedFile: the file is truncated or not a packed one.
    """
    file = path / OUTCOMES
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_FILE_BYTES:
        raise DamagedFile(f"{OUTCOMES} is larger than packed outcomes can be")
    chosen = None if wanted is None else set(wanted)
    found, start = {}, 0
    try:
        source = pq.ParquetFile(file)
        if source.metadata.num_rows > MAX_ROWS:
            raise DamagedFile(f"{OUTCOMES} promises {source.metadata.num_rows} rows")
        units = json.loads((source.schema_arrow.metadata or {})[METADATA_KEY])["packed"]
        table = source.read(columns=SCHEMA.names).select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata()
        for unit in units:
            metadata, count = unit["metadata"], int(unit["rows"])
            name = str(metadata["unit"])
            rows, start = table.slice(start, count), start + count
            if (chosen is None or name in chosen) and content_hash(rows, metadata) == unit["content"]:
                found[name] = (_alone(rows), metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DamagedFile(f"{OUTCOMES} can't be read ({type(error).__name__})") from error
    return found


def packed_timings(path: Path) -> dict[str, dict[str, Any]]:
    """The timing of each packed unit; empty where there are none that can be read."""
    found = _json(path / TIMINGS)
    return {unit: timing for unit, timing in found.items() if isinstance(timing, dict)}


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _alone(rows: pa.Table) -> pa.Table:
    """Rows of one unit without the texts that only other units have."""
    for place, field in enumerate(SCHEMA):
        if pa.types.is_dictionary(field.type):
            rows = rows.set_column(place, field, as_first_met(rows.column(place).combine_chunks()))
    return rows
