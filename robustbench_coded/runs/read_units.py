"""Outcome files read from disk, and kept in memory while they are unchanged: evaluations read them often."""

import copy
from pathlib import Path

import pyarrow as pa

from robustbench_coded.runs.outcomes import DamagedFile, read_table

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
