"""Outcome files: one Parquet file per unit, checked against its own content hash when read.

A run is written as one file per unit, so that nothing finished is ever written twice. Once it is finished,
hundreds of small files are of no use: they are packed into three, the outcomes of all units in a Parquet
file, timings and self-tests. Packed outcomes keep the columns of outcome files, and the metadata and content
hash of each unit. A run folder that is opened for writing is unpacked first.

Margins are stored with 16 bits, sign and exponent whole and 8 significant bits: they say how close an answer
was, and cost four fifths of a file otherwise. Predictions are stored as they are.
"""

import copy
import hashlib
import io
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_bytes, write_text

SCHEMA = pa.schema(
    [
        ("checkpoint", pa.dictionary(pa.int32(), pa.string())),
        ("defence", pa.dictionary(pa.int32(), pa.string())),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("threat", pa.dictionary(pa.int32(), pa.string())),
        ("attack", pa.dictionary(pa.int32(), pa.string())),
        ("norm", pa.dictionary(pa.int32(), pa.string())),
        ("eps", pa.float64()),
        ("eps_space", pa.dictionary(pa.int32(), pa.string())),
        ("step_size", pa.float64()),
        ("purpose", pa.dictionary(pa.int32(), pa.string())),
        ("example", pa.int32()),
        ("label", pa.int32()),
        ("batch", pa.int32()),
        ("slot", pa.int32()),
        ("draw", pa.int32()),
        ("prediction", pa.int32()),
        ("margin", pa.float32()),
    ]
)
METADATA_KEY = b"csrobust"
# A unit has about 100,000 rows; a file that declares far more is hostile or damaged.
MAX_ROWS = 10_000_000
MAX_FILE_BYTES = 1 << 30


class DamagedFile(Exception):
    """An outcome file that can't be read, or whose content does not match its hash."""


def write_outcomes(path: Path, table: pa.Table, metadata: dict) -> None:
    """Writes one unit's rows, in ``SCHEMA``, with its metadata (plain JSON data) and a hash of both.

    Margins are rounded (:func:`with_short_margins`).
    """
    table = with_short_margins(table)
    content = {**metadata, "content": content_hash(table, metadata)}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(content, sort_keys=True).encode()})
    write_bytes(path, encoded(table))


def with_short_margins(table: pa.Table) -> pa.Table:
    """The table with each finite margin rounded to the nearest float32 whose lower 16 bits are zero."""
    margins = table.column("margin").combine_chunks().to_numpy(zero_copy_only=False).astype(np.float32)
    bits = margins.view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))  # ties to even
    rounded = np.where(np.isfinite(margins), (bits + half) & np.uint32(0xFFFF0000), bits)
    place = table.column_names.index("margin")
    return table.set_column(place, SCHEMA.field("margin"), pa.array(rounded.view(np.float32)))


def encoded(table: pa.Table, compression_level: int = 9) -> bytes:
    """A table in ``SCHEMA``'s columns as the content of a Parquet file."""
    encodings = {"margin": "BYTE_STREAM_SPLIT", "example": "DELTA_BINARY_PACKED"}
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=compression_level,
        use_dictionary=[name for name in SCHEMA.names if name not in encodings],
        column_encoding=encodings,
        write_statistics=False,
    )
    return buffer.getvalue()


def read_table(path: Path) -> tuple[pa.Table, dict]:
    """One unit's outcome rows in ``SCHEMA``'s columns, as an Arrow table, and its metadata.

    Raises:
        DamagedFile: the file is truncated, altered or not an outcome file.
        OSError: the file system fails; the content may be undamaged.
    """
    if not path.is_file():
        raise DamagedFile(f"{path.name} is not a file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DamagedFile(f"{path.name} is larger than an outcome file can be")
    content = path.read_bytes()
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        if file.metadata.num_rows > MAX_ROWS:
            raise DamagedFile(f"{path.name} promises {file.metadata.num_rows} rows")
        raw = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
        table = _typed(file.read())
        metadata = json.loads(raw) if raw else {}
        expected = metadata.pop("content", None)
        actual = content_hash(table, metadata)
        table = table.select(SCHEMA.names)
    except DamagedFile:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        MemoryError,
        pa.ArrowException,
    ) as error:
        raise DamagedFile(f"{path.name} can't be read as an outcome file ({type(error).__name__})") from error
    if expected != actual:
        raise DamagedFile(f"{path.name} does not hold what its hash says")
    return table.replace_schema_metadata(), metadata


def _typed(table: pa.Table) -> pa.Table:
    """All columns of a file, those of ``SCHEMA`` in its types."""
    fields = [SCHEMA.field(field.name) if field.name in SCHEMA.names else field for field in table.schema]
    return table.cast(pa.schema(fields))


def content_hash(table: pa.Table, metadata: dict) -> str:
    """Hash of the values of all columns (not of their encoding, which another writer may choose
    differently).
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = by_first_use(column)
            digest.update(json.dumps(column.dictionary.to_pylist()).encode())
            column = column.indices
        digest.update(name.encode())
        digest.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        digest.update(column.fill_null(0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def by_first_use(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same texts with a dictionary of those that occur, in the order in which they do."""
    used = column.indices.unique().drop_null()
    return pa.DictionaryArray.from_arrays(
        pc.index_in(column.indices, value_set=used), column.dictionary.take(used)
    )


MOST_BYTES = 256 << 20  # of memory; larger runs are read from the disk each time

_State = tuple[int, int, int]


class _Cache:
    """Content by file, in the state in which the file was read and checked."""

    def __init__(self) -> None:
        self._content: dict[Path, tuple[_State, pa.Table, dict]] = {}
        self._bytes = 0

    def get(self, file: Path, state: _State) -> tuple[pa.Table, dict] | None:
        entry = self._content.get(file)
        return None if entry is None or entry[0] != state else (entry[1], copy.deepcopy(entry[2]))

    def put(self, file: Path, state: _State, rows: pa.Table, metadata: dict) -> None:
        self._bytes += rows.nbytes
        if self._bytes > MOST_BYTES:
            self._content.clear()
            self._bytes = rows.nbytes
        self._content[file] = (state, rows, copy.deepcopy(metadata))


_cache = _Cache()


def read_unit(file: Path, unit: str) -> tuple[pa.Table, dict]:
    """One unit's rows and metadata, checked against its hash unless the file is as it was when last checked.

    Raises:
        DamagedFile: the file is truncated, altered, or of another unit.
        OSError: the file system fails.
    """
    if not file.is_file():  # a link to nowhere has no state to ask for
        raise DamagedFile(f"{file.name} is not a file")
    stat = file.stat()
    state, whole = (stat.st_ino, stat.st_size, stat.st_mtime_ns), file.resolve()
    if (known := _cache.get(whole, state)) is not None and known[1]["unit"] == unit:
        return known
    rows, metadata = read_table(file)
    if metadata.get("unit") != unit:
        raise DamagedFile(f"{file.name} belongs to another unit")
    _cache.put(whole, state, rows, metadata)
    return rows, metadata


OUTCOMES = Path("outcomes") / "packed.parquet"
TIMINGS = Path("timings") / "packed.json"
SELFTESTS = Path("selftests") / "packed.json"
MAX_PACKED_BYTES = 4 << 30
MAX_PACKED_ROWS = 1_000_000_000
MAX_PACKED_METADATA = 64 << 20  # bytes of JSON
MAX_OBJECT_BYTES = 1 << 20
PACKED_KEY = b"csrobust-packed"
PACKED_LEVEL = 19  # a finished run is packed once


def pack(path: Path) -> int:
    """Puts outcomes, timings and self-tests into a file each; gives how many units. The folder is locked.

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
    # A Parquet file's metadata are not compressed: those of a thousand units took more room than their rows.
    packed = b64encode(zlib.compress(json.dumps(units, sort_keys=True).encode(), 9))
    others = [file for name in (TIMINGS, SELFTESTS) for file in _pack_objects(path / name)]
    write_bytes(path / OUTCOMES, encoded(table.replace_schema_metadata({PACKED_KEY: packed}), PACKED_LEVEL))
    for file in (*files, *others):
        file.unlink()
    return len(files)


def _pack_objects(packed: Path) -> list[Path]:
    """Adds the objects in the files beside ``packed`` to it; gives these files."""
    files = [file for file in packed.parent.glob("*.json") if file != packed]
    objects = {**packed_objects(packed), **{file.stem: read_object(file) for file in files}}
    lines = (f"{json.dumps(name)}: {json.dumps(objects[name], sort_keys=True)}" for name in sorted(objects))
    if files:
        write_text(packed, "{\n" + ",\n".join(lines) + "\n}\n")
    return files


def unpack(path: Path) -> None:
    """Gives every packed unit its own files again; a unit that is damaged, or has newer files, is left out.

    The folder must be locked. A file that can't be read at all is renamed, and its units are computed again.
    """
    file = path / OUTCOMES
    if not file.is_file():
        return
    try:
        contents, timings = packed_units(path), packed_objects(path / TIMINGS)
    except DamagedFile:
        file.replace(file.with_name(file.name + ".damaged"))
        return
    for unit, (rows, metadata) in contents.items():
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
    if file.stat().st_size > MAX_PACKED_BYTES:
        raise DamagedFile(f"{OUTCOMES} is larger than packed outcomes can be")
    chosen = None if wanted is None else set(wanted)
    contents, start = {}, 0
    try:
        source = pq.ParquetFile(file)
        if source.metadata.num_rows > MAX_PACKED_ROWS:
            raise DamagedFile(f"{OUTCOMES} promises {source.metadata.num_rows} rows")
        units = _packed_metadata((source.schema_arrow.metadata or {})[PACKED_KEY])
        table = _typed(source.read()).replace_schema_metadata()
        for unit in units:
            metadata, count = unit["metadata"], int(unit["rows"])
            name = str(metadata["unit"])
            rows, start = table.slice(start, count), start + count
            if (chosen is None or name in chosen) and content_hash(rows, metadata) == unit["content"]:
                contents[name] = (_alone(rows.select(SCHEMA.names)), metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error, pa.ArrowException) as error:
        raise DamagedFile(f"{OUTCOMES} can't be read ({type(error).__name__})") from error
    return contents


def _packed_metadata(stored: bytes) -> list[dict[str, Any]]:
    """Metadata, number of rows and content hash of each packed unit."""
    reader = zlib.decompressobj()
    text = reader.decompress(b64decode(stored), MAX_PACKED_METADATA)
    if reader.unconsumed_tail:
        raise ValueError("the metadata are larger than those of a run can be")
    return json.loads(text)


def packed_objects(file: Path) -> dict[str, dict[str, Any]]:
    """The objects in packed timings or self-tests, by name; empty where there are none that can be read."""
    contents = read_object(file, MAX_PACKED_METADATA)
    return {name: value for name, value in contents.items() if isinstance(value, dict)}


def read_object(file: Path, most: int = MAX_OBJECT_BYTES) -> dict[str, Any]:
    """The JSON object in a file of at most so many bytes; empty if it has anything else, or is missing."""
    try:
        data = json.loads(file.read_bytes()) if file.is_file() and file.stat().st_size <= most else None
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _alone(rows: pa.Table) -> pa.Table:
    """Rows of one unit without the texts that only other units have."""
    for place, field in enumerate(SCHEMA):
        if pa.types.is_dictionary(field.type):
            rows = rows.set_column(place, field, by_first_use(rows.column(place).combine_chunks()))
    return rows
