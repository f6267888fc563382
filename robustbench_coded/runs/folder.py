"""The run folder: the plan of a run, the outcomes committed so far, and the failures of units."""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa

from robustbench_coded.errors import LOG, InputError
from robustbench_coded.extensions import points_of
from robustbench_coded.runs import atomic, outcomes

FORMAT_VERSION = 2
MANIFEST = "run.json"
RUN_FILE = "run.toml"
STEPS = "steps.jsonl"
LOCK = ".lock"
# Everything else that a run or its reports put into the folder.
WRITTEN = (
    RUN_FILE, STEPS, "outcomes", "timings", "failures", "selftests", "adversarials", "perturbed",
    "figures", "summary.csv", "timings.csv", "verdicts.csv", "report.md", "report.html", "report.tex",
)  # fmt: skip
_UNIT = re.compile(r"[0-9a-f]{20}")


class RunFolder(AbstractContextManager["RunFolder"]):
    """A run folder opened for writing by one process.

    Writing methods raise OSError if the disk or the permissions fail; earlier commits are kept.

    Args:
        path: the folder; made if it is missing.
        manifest: the file that says what the folder holds; other kinds of runs have another.

    Raises:
        InputError: the path is a file, contains something other than a run, can't be written, or is in use.
    """

    def __init__(self, path: Path, manifest: str = MANIFEST):
        self.path = path
        self._manifest = manifest
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give --out a folder")
        self._made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            # A run that is killed before it writes run.json leaves these alone.
            others = [p for p in path.iterdir() if p.name != LOCK and not atomic.is_unfinished(p)]
            if others and not self.holds_run:
                raise InputError(
                    f"{path} holds other files and no {manifest}; give --out a new or an empty folder"
                )
            self._lock = _lock(path / LOCK)
            atomic.remove_unfinished(path)
            outcomes.unpack(path)
        except OSError as error:
            raise InputError(f"{path} can't be written ({error.strerror}); give another --out") from error

    def __exit__(self, *error: object) -> None:
        """Unlocks the folder; removes it if it is new and empty.

        The lock file stays: if it were removed, two later processes could lock two different files.
        """
        if self._made and {p.name for p in self.path.iterdir()} <= {LOCK}:
            shutil.rmtree(self.path)
        self._lock.close()

    @property
    def holds_run(self) -> bool:
        """True if the manifest of a run has been written."""
        return (self.path / self._manifest).exists()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replaces run.json, or what stands for it."""
        text = json.dumps({"format_version": FORMAT_VERSION, **manifest}, indent=1) + "\n"
        atomic.write_text(self.path / self._manifest, text)

    def clear(self) -> None:
        """Removes what runs write, for ``--overwrite``, and nothing else.

        run.json is removed last: if this is killed, the folder is still a run folder with missing units.
        """
        for name in (*WRITTEN, self._manifest):
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def commit(
        self,
        unit: str,
        rows: pa.Table,
        metadata: dict[str, Any],
        timing: dict[str, Any],
        adversarials: bytes | None = None,
    ) -> None:
        """Stores a finished unit. The outcome file is written last: its appearance is the commit."""
        if adversarials:
            atomic.write_bytes(self.path / "adversarials" / f"{unit}.safetensors", adversarials)
        text = json.dumps(timing, sort_keys=True) + "\n"
        atomic.write_text(self.path / "timings" / f"{unit}.json", text, synced=False)
        outcomes.write_outcomes(self._outcomes(unit), rows, {**metadata, "unit": unit})
        (self.path / "failures" / f"{unit}.json").unlink(missing_ok=True)

    def commit_selftests(self, identity: str, results: dict[str, Any]) -> None:
        """Stores the self-tests of one subject."""
        text = json.dumps(results, indent=1, sort_keys=True) + "\n"
        atomic.write_text(self.path / "selftests" / f"{identity}.json", text)

    def has_selftests(self, identity: str) -> bool:
        """True if the self-tests of that identity are stored and can be read."""
        return bool(read_selftests(self.path, identity))

    def record_failure(self, unit: str, failure: dict[str, Any]) -> None:
        """Stores why a unit has no outcomes."""
        atomic.write_text(self.path / "failures" / f"{unit}.json", json.dumps(failure, sort_keys=True) + "\n")

    def committed(self, units: Iterable[str]) -> tuple[dict[str, dict], dict[str, str]]:
        """Reads the outcome files of these units.

        Returns:
            the metadata of each unit whose file matches its hash, and for each other existing file the reason
            why it can't be trusted.
        """
        trusted, damaged = {}, {}
        for unit in units:
            path = self._outcomes(unit)
            if not _UNIT.fullmatch(unit) or not os.path.lexists(path):
                continue
            try:
                trusted[unit] = outcomes.read_unit(path, unit)[1]
            except outcomes.DamagedFile as error:
                damaged[unit] = str(error)
        return trusted, damaged

    def set_aside(self, unit: str) -> Path:
        """Renames a damaged outcome file, so that its unit is computed again; returns the new path."""
        path = self._outcomes(unit)
        aside = path.with_name(path.name + ".damaged")
        return path.replace(aside)

    def remove(self, units: Iterable[str]) -> None:
        """Removes units that are no longer in the plan, for example those of another number of draws."""
        for unit in units:
            if _UNIT.fullmatch(unit):
                self._outcomes(unit).unlink(missing_ok=True)
                (self.path / "adversarials" / f"{unit}.safetensors").unlink(missing_ok=True)
                for kind in ("timings", "failures"):
                    (self.path / kind / f"{unit}.json").unlink(missing_ok=True)

    def _outcomes(self, unit: str) -> Path:
        return self.path / "outcomes" / f"{unit}.parquet"


def runs_below(folder: Path) -> list[Path]:
    """The folders of all runs below a folder, in order.

    Raises:
        InputError: there is none.
        OSError: the folder can't be looked into; a search passes over that silently since Python 3.13.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        folder.stat()
    runs = sorted(file.parent for file in folder.rglob(MANIFEST))
    if not runs:
        raise InputError(f"{folder} holds no run; csrobust eval writes one")
    return runs


def read_manifest(path: Path, name: str = MANIFEST) -> dict[str, Any]:
    """run.json of a run folder, or what stands for it.

    Raises:
        InputError: there is none, it can't be read, or it has another format.
    """
    file = path / name
    if not file.is_file():
        inside = path.is_file() and (path.parent / name).is_file()
        hint = f"; it is a file of the run {path.parent}" if inside else ""
        for kind in points_of("runs"):
            if (path / f"{kind}.json").is_file():
                hint = f"; it is a run of {kind}, which csrobust report reads"
        why = f"it has no {name}" if path.exists() else "there is no such folder"
        raise InputError(f"{path} is not a run folder ({why}){hint}")
    try:
        manifest = json.loads(file.read_text())
        version = int(manifest["format_version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} can't be read; restore it, or start the run anew with --overwrite"
        ) from error
    if version != FORMAT_VERSION:
        mend = "update csrobust" if version > FORMAT_VERSION else "start the run anew with --overwrite"
        raise InputError(f"{file} has format {version}, this csrobust reads {FORMAT_VERSION}; {mend}")
    return manifest


def read_run(path: Path, units: Sequence[str]) -> tuple[pd.DataFrame, dict[str, dict], dict[str, dict]]:
    """Outcomes and costs of a run's units, in the order of ``units``.

    Returns:
        the rows of all units, each unit's metadata and each unit's timing. Missing or damaged units are left
        out of all three; the caller must notice.

    Raises:
        InputError: the file of all packed units can't be read. Without it nothing is left of the run, and
            reports written again would lose what the earlier ones say.
    """
    tables, metadata, timings = [], {}, {}
    try:
        packed = outcomes.packed_units(path, units)
    except outcomes.DamagedFile as error:
        raise InputError(
            f"{path / error.args[0]}; restore it, or run the command of the run, which computes it again"
        ) from error
    packed_times = outcomes.packed_objects(path / outcomes.TIMINGS)
    for unit in units:
        file = path / "outcomes" / f"{unit}.parquet"
        if not _UNIT.fullmatch(unit):
            continue
        if not file.exists():
            if unit in packed:
                rows, metadata[unit] = packed[unit]
                tables.append(rows)
                timings[unit] = packed_times.get(unit, {})
            continue
        try:
            rows, metadata[unit] = outcomes.read_unit(file, unit)
        except (outcomes.DamagedFile, OSError):
            continue
        tables.append(rows)
        timings[unit] = outcomes.read_object(path / "timings" / f"{unit}.json")
    return _concatenated(tables), metadata, timings


def read_failures(path: Path, units: Sequence[str]) -> dict[str, dict]:
    """Why units have no outcomes, for those that failed."""
    failures = {}
    for unit in units:
        file = path / "failures" / f"{unit}.json"
        if _UNIT.fullmatch(unit) and file.exists():
            failures[unit] = outcomes.read_object(file) or {
                "error": "it failed, and the record of why is damaged"
            }
    return failures


def read_selftests(path: Path, identity: str) -> dict[str, Any]:
    """Results of the self-tests of one subject; empty where there are none that can be read."""
    own = outcomes.read_object(path / "selftests" / f"{identity}.json") if _UNIT.fullmatch(identity) else {}
    return own or outcomes.packed_objects(path / outcomes.SELFTESTS).get(identity, {})


def _concatenated(tables: list[pa.Table]) -> pd.DataFrame:
    """One frame with common categories, which keeps text columns of millions of rows small.

    Empties ``tables``.
    """
    if not tables:
        return pd.DataFrame()
    table = pa.concat_tables(tables).unify_dictionaries()
    tables.clear()
    # Arrow's columns are freed one by one as they are converted: millions of rows are in memory only once.
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    del table
    pa.default_memory_pool().release_unused()
    for column in frame:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].cat.set_categories(sorted(frame[column].cat.categories))
    return frame


_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def _lock(path: Path) -> IO:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"another csrobust is writing to {path.parent}; wait for it or give another --out"
        ) from error
    except OSError as error:  # as on Lustre and some NFS; EIO and the like would stop the first commit, too
        if error.errno not in _NO_LOCKS:
            raise
        LOG.warning(
            f"{path.parent}: its file system has no locks ({error.strerror}); run one command at a time there"
        )
    return file
