"""Outcome files: one Parquet file per unit, checked against its own content hash when read."""

import copy
import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustbench_coded.runs.atomic import write_bytes

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
        ("replicate", pa.int32()),
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
    """Writes one unit's rows, in ``SCHEMA``, with its metadata (plain JSON data) and a hash of both."""
    content = {**metadata, "content": content_hash(table, metadata)}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(content, sort_keys=True).encode()})
    write_bytes(path, encoded(table))


def encoded(table: pa.Table) -> bytes:
    """A table in ``SCHEMA``'s columns as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=9,
        use_dictionary=[field.name for field in SCHEMA if field.name != "margin"],
        column_encoding={"margin": "BYTE_STREAM_SPLIT"},
        write_statistics=False,
    )
    return buffer.getvalue()


def read_outcomes(path: Path) -> tuple[pd.DataFrame, dict]:
    """One unit's outcome rows (in ``SCHEMA``'s columns) and its metadata; raises as ``read_table`` does."""
    table, metadata = read_table(path)
    return table.to_pandas(), metadata


def read_table(path: Path) -> tuple[pa.Table, dict]:
    """The same, with the rows as an Arrow table; many tables are joined faster than frames.

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
        table = file.read(columns=SCHEMA.names)
        metadata = json.loads(raw) if raw else {}
        expected = metadata.pop("content", None)
        table = table.select(SCHEMA.names).cast(SCHEMA)
        actual = content_hash(table, metadata)
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


def content_hash(table: pa.Table, metadata: dict) -> str:
    """Hash of the values (not of their encoding, which another writer may choose differently)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in SCHEMA.names:
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = as_first_met(column)
            digest.update(json.dumps(column.dictionary.to_pylist()).encode())
            column = column.indices
        digest.update(name.encode())
        digest.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        digest.update(column.fill_null(0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def as_first_met(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same texts with a dictionary of those that occur, in the order in which they do."""
    used = column.indices.unique().drop_null()
    return pa.DictionaryArray.from_arrays(
        pc.index_in(column.indices, value_set=used), column.dictionary.take(used)
    )


MOST_BYTES = 256 << 20  # of memory; larger runs are read from the disk each time

_State = tuple[int, int, int]


class _Kept:
    """Content by file, in the state in which the file was read and checked."""

    def __init__(self) -> None:
        self._content: dict[Path, tuple[_State, pa.Table, dict]] = {}
        self._bytes = 0

    def get(self, file: Path, state: _State) -> tuple[pa.Table, dict] | None:
        found = self._content.get(file)
        return None if found is None or found[0] != state else (found[1], copy.deepcopy(found[2]))

    def put(self, file: Path, state: _State, rows: pa.Table, metadata: dict) -> None:
        self._bytes += rows.nbytes
        if self._bytes > MOST_BYTES:
            self._content.clear()
            self._bytes = rows.nbytes
        self._content[file] = (state, rows, copy.deepcopy(metadata))


_kept = _Kept()


def read_unit(file: Path, unit: str) -> tuple[pa.Table, dict]:
    """One unit's rows and metadata, checked against its hash unless the file is as it was when last checked.

    Raises:
        DamagedFile: the file is truncated, altered, or of another unit.
        OSError: the file system fails.
    """
    if not file.is_file():  # a link to nowhere has no state to ask for
        raise DamagedFile(f"{file.name} is not a file")
    found = file.stat()
    state, whole = (found.st_ino, found.st_size, found.st_mtime_ns), file.resolve()
    if (known := _kept.get(whole, state)) is not None and known[1]["unit"] == unit:
        return known
    rows, metadata = read_table(file)
    if metadata.get("unit") != unit:
        raise DamagedFile(f"{file.name} belongs to another unit")
    _kept.put(whole, state, rows, metadata)
    return rows, metadata
