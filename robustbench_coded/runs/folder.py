"""The run folder: what a run planned, the outcomes committed so far, and what became of each unit."""

import fcntl
import json
import re
import shutil
from pathlib import Path
from typing import IO, Any

import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import remove_unfinished, write_text
from robustbench_coded.runs.outcomes import DamagedFile, read_outcomes, write_outcomes

FORMAT_VERSION = 1
MANIFEST = "run.json"
LOCK = ".lock"
_UNIT = re.compile(r"[0-9a-f]{20}")


class RunFolder:
    """A run folder opened for writing by one process.

    Args:
        path: the folder; made if it is missing.

    Raises:
        InputError: the path is a file, holds something else than a run, can't be written, or is in use.
    """

    def __init__(self, path: Path):
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give --out a folder")
        if path.is_dir() and not (path / MANIFEST).exists() and any(p.name != LOCK for p in path.iterdir()):
            raise InputError(
                f"{path} holds other files and no {MANIFEST}; give --out a new or an empty folder"
            )
        self._made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path / LOCK)
        except OSError as error:
            raise InputError(f"{path} can't be written ({error.strerror}); give another --out") from error
        remove_unfinished(path)

    def close(self) -> None:
        """Gives the folder free for other processes; a new folder that got nothing is not left behind.

        The lock file stays: removing it would let two later processes hold locks on two different files.
        """
        if self._made and {p.name for p in self.path.iterdir()} <= {LOCK}:
            shutil.rmtree(self.path)
        self._lock.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def manifest(self) -> dict[str, Any] | None:
        """The content of run.json, or None in a new folder."""
        if not (self.path / MANIFEST).exists():
            return None
        return read_manifest(self.path)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replaces run.json."""
        write_text(
            self.path / MANIFEST, json.dumps({"format_version": FORMAT_VERSION, **manifest}, indent=1) + "\n"
        )

    def clear(self) -> None:
        """Removes everything that a run writes, for ``--overwrite``; the reports' own folders included."""
        for entry in self.path.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def commit(self, unit: str, rows: pd.DataFrame, metadata: dict[str, Any], timing: dict[str, Any]) -> None:
        """Stores a finished unit: its timing first, since the outcome file's appearance is the commit."""
        write_text(self.path / "timings" / f"{unit}.json", json.dumps(timing, sort_keys=True) + "\n")
        write_outcomes(self.path / "outcomes" / f"{unit}.parquet", rows, metadata)
        (self.path / "failures" / f"{unit}.json").unlink(missing_ok=True)

    def record_failure(self, unit: str, failure: dict[str, Any]) -> None:
        """Stores why a unit has no outcomes."""
        write_text(self.path / "failures" / f"{unit}.json", json.dumps(failure, sort_keys=True) + "\n")

    def damaged(self, units: list[str]) -> dict[str, str]:
        """Which of the committed files of these units can't be trusted, and why; they are removed."""
        found = {}
        for unit in units:
            path = self.path / "outcomes" / f"{unit}.parquet"
            if not path.exists():
                continue
            try:
                _, metadata = read_outcomes(path)
                if metadata.get("unit") != unit:
                    raise DamagedFile(f"{path.name} belongs to another unit")
            except DamagedFile as error:
                found[unit] = str(error)
                path.unlink()
        return found

    def committed(self, units: list[str]) -> set[str]:
        """Which of these units have an outcome file."""
        folder = self.path / "outcomes"
        present = {p.stem for p in folder.glob("*.parquet")} if folder.is_dir() else set()
        return present & set(units)


def read_manifest(path: Path) -> dict[str, Any]:
    """run.json of a run folder.

    Raises:
        InputError: there is none, it can't be read, or a newer csrobust wrote it.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(f"{path} is not a run folder (it has no {MANIFEST})")
    try:
        manifest = json.loads(file.read_text())
        version = int(manifest["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} can't be read; restore it, or start the run anew with --overwrite"
        ) from error
    if version > FORMAT_VERSION:
        raise InputError(
            f"{file} has format {version}, this csrobust reads up to {FORMAT_VERSION}; update csrobust"
        )
    return manifest


def read_run(path: Path, units: list[str]) -> tuple[pd.DataFrame, dict[str, dict], dict[str, dict]]:
    """Outcomes and costs of a run's units, in the order of ``units``.

    Returns:
        the rows of all units, each unit's metadata and each unit's timing (units that are missing or damaged
        are left out of all three; it is for the caller to notice).
    """
    frames, metadata, timings = [], {}, {}
    for unit in units:
        file = path / "outcomes" / f"{unit}.parquet"
        if not _UNIT.fullmatch(unit) or not file.exists():
            continue
        try:
            rows, data = read_outcomes(file)
        except DamagedFile:
            continue
        if data.get("unit") != unit:
            continue
        frames.append(rows)
        metadata[unit] = data
        timing = path / "timings" / f"{unit}.json"
        timings[unit] = json.loads(timing.read_text()) if timing.exists() else {}
    return _concatenated(frames), metadata, timings


def read_failures(path: Path, units: list[str]) -> dict[str, dict]:
    """Why units have no outcomes, for those that failed."""
    found = {}
    for unit in units:
        file = path / "failures" / f"{unit}.json"
        if _UNIT.fullmatch(unit) and file.exists():
            found[unit] = json.loads(file.read_text())
    return found


def _concatenated(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame with common categories, so that millions of rows keep their text columns small."""
    if not frames:
        return pd.DataFrame()
    categorical = [c for c in frames[0] if isinstance(frames[0][c].dtype, pd.CategoricalDtype)]
    for column in categorical:
        values = sorted({v for f in frames for v in f[column].cat.categories})
        for frame in frames:
            frame[column] = frame[column].cat.set_categories(values)
    return pd.concat(frames, ignore_index=True)


def _lock(path: Path) -> IO:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(
            f"another csrobust is writing to {path.parent}; wait for it or give another --out"
        ) from error
    return file
