"""Outcomes: a Parquet file for each unit while a run goes on, one for all of them at its end; both are read
alike. The digest of a unit's rows stands in the log, not in the file.

Margins are stored with 16 bits, sign and exponent whole and 8 significant bits: they say how close an answer
was, and cost four fifths of a file otherwise. Predictions are stored as they are.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
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
UNIT = "unit"  # the first column of a file; a run's has many
FILE_SCHEMA = pa.schema([(UNIT, pa.dictionary(pa.int32(), pa.string())), *SCHEMA])
TOGETHER = "outcomes.parquet"
# A unit has about 100,000 rows; a file that declares far more is hostile or damaged.
MAX_ROWS = 10_000_000
MAX_FILE_BYTES = 1 << 30
MAX_ROWS_TOGETHER = 1_000_000_000
MAX_BYTES_TOGETHER = 4 << 30
LEVEL = 9  # of compression
LEVEL_TOGETHER = 19  # a finished run is written once


class DamagedFile(Exception):
    """An outcome file that can't be read, or rows that do not match their digest."""


def with_short_margins(table: pa.Table) -> pa.Table:
    """The table with each finite margin rounded to the nearest float32 whose lower 16 bits are zero."""
    margins = table.column("margin").combine_chunks().to_numpy(zero_copy_only=False).astype(np.float32)
    bits = margins.view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))  # ties to even
    rounded = np.where(np.isfinite(margins), (bits + half) & np.uint32(0xFFFF0000), bits)
    place = table.column_names.index("margin")
    return table.set_column(place, SCHEMA.field("margin"), pa.array(rounded.view(np.float32)))


def encoded(table: pa.Table, compression_level: int = LEVEL) -> bytes:
    """A table in ``FILE_SCHEMA``'s columns as the content of a Parquet file."""
    encodings = {"margin": "BYTE_STREAM_SPLIT", "example": "DELTA_BINARY_PACKED"}
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=compression_level,
        use_dictionary=[name for name in FILE_SCHEMA.names if name not in encodings],
        column_encoding=encodings,
        write_statistics=False,
    )
    return buffer.getvalue()


def _read(file: Path) -> pa.Table:
    """The rows of a file in ``FILE_SCHEMA``'s columns."""
    together = file.name == TOGETHER
    if file.stat().st_size > (MAX_BYTES_TOGETHER if together else MAX_FILE_BYTES):
        raise DamagedFile(f"{file.name} is larger than an outcome file can be")
    content = file.read_bytes()
    try:
        source = pq.ParquetFile(pa.BufferReader(content))
        if source.metadata.num_rows > (MAX_ROWS_TOGETHER if together else MAX_ROWS):
            raise DamagedFile(f"{file.name} promises {source.metadata.num_rows} rows")
        return source.read().select(FILE_SCHEMA.names).cast(FILE_SCHEMA).replace_schema_metadata()
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
        raise DamagedFile(f"{file.name} can't be read as an outcome file ({type(error).__name__})") from error


def digest_of(rows: pa.Table) -> str:
    """Hash of the values of all columns (not of their encoding, which another writer may choose
    differently).
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in rows.column_names:
        column = rows.column(name).combine_chunks()
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


class UnitRows(NamedTuple):
    """The rows of one unit, in ``SCHEMA``'s columns, and their digest."""

    rows: pa.Table
    digest: str


class _Cache:
    """The units of outcome files, in the state in which a file was read."""

    def __init__(self) -> None:
        self._content: dict[Path, tuple[_State, dict[str, UnitRows]]] = {}
        self._bytes = 0

    def get(self, file: Path, state: _State) -> dict[str, UnitRows] | None:
        entry = self._content.get(file)
        return None if entry is None or entry[0] != state else entry[1]

    def put(self, file: Path, state: _State, units: dict[str, UnitRows]) -> None:
        size = sum(unit.rows.nbytes for unit in units.values())
        self._bytes += size
        if self._bytes > MOST_BYTES:
            self._content.clear()
            self._bytes = size
        self._content[file] = (state, units)


_cache = _Cache()


def units_in(file: Path) -> dict[str, UnitRows]:
    """The units in an outcome file, by id, in its order; {} where there is no file.

    Raises:
        DamagedFile: the file is truncated, altered or not an outcome file.
        OSError: the file system fails; the content may be undamaged.
    """
    if not os.path.lexists(file):
        return {}
    if not file.is_file():  # a link to nowhere, a pipe
        raise DamagedFile(f"{file.name} is not a file")
    stat, whole = file.stat(), file.resolve()
    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if (known := _cache.get(whole, state)) is not None:
        return known
    table = _read(file)
    names = table.column(UNIT).combine_chunks()
    codes = names.indices.to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)] if len(codes) else []
    rows, units = table.drop_columns([UNIT]), {}
    for start, end in pairwise(edges):
        own = alone(rows.slice(start, end - start))
        units[names.dictionary[int(codes[start])].as_py()] = UnitRows(own, digest_of(own))
    _cache.put(whole, state, units)
    return units


def alone(rows: pa.Table) -> pa.Table:
    """Rows of one unit without the texts that only other units have."""
    for place, column in enumerate(SCHEMA):
        if pa.types.is_dictionary(column.type):
            rows = rows.set_column(place, column, by_first_use(rows.column(place).combine_chunks()))
    return rows


def write_units(file: Path, units: Mapping[str, pa.Table], compression_level: int = LEVEL) -> None:
    """Writes the rows of one or many units, in ``SCHEMA``'s columns, into a file, in this order."""
    tables = [_with_unit(rows, unit) for unit, rows in units.items()] or [FILE_SCHEMA.empty_table()]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    write_bytes(file, encoded(table, compression_level))


def _with_unit(rows: pa.Table, unit: str) -> pa.Table:
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([unit]))
    return rows.add_column(0, FILE_SCHEMA.field(UNIT), names)
