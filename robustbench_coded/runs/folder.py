"""The run folder: what is evaluated, what has happened (log.jsonl), and the outcomes.

While a run goes on, header.json says what the command began with, the log what has changed since, and each
unit has an outcome file of its own. At its end run.json says all of it, and one file has all outcomes. A
command that goes on with a finished run writes new units beside that file, and puts them into it at its end.
"""

import errno
import fcntl
import hashlib
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
from robustbench_coded.runs import atomic, log, outcomes
from robustbench_coded.runs.log import read_log
from robustbench_coded.runs.outcomes import SCHEMA, TOGETHER

FORMAT_VERSION = 3
MANIFEST = "run.json"
HEADER = "header.json"
COMMAND = "command"  # of the header: the number of the command in the log
HASH = "sha256"  # of run.json: of everything else in it
RUN_FILE = "run.toml"
LOCK = ".lock"
ADVERSARIALS = "adversarials.safetensors"
# Everything else that a run or its reports put into the folder.
WRITTEN = (
    RUN_FILE, log.NAME, "outcomes", TOGETHER, "adversarials", ADVERSARIALS, "perturbed",
    "summary.csv", "verdicts.csv", "report.md", "report.html", "report.tex",
)  # fmt: skip
_UNIT = re.compile(r"[0-9a-f]{20}")


class RunFolder(AbstractContextManager["RunFolder"]):
    """A run folder opened for writing by one process.

    Writing methods raise OSError if the disk or the permissions fail; earlier commits are kept.

    Args:
        path: the folder; made if it is missing.

    Raises:
        InputError: the path is a file, contains something other than a run, can't be written, or is in use.
    """

    def __init__(self, path: Path):
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give --out a folder")
        self._made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            # A run that is killed before it writes run.json leaves these alone.
            others = [p for p in path.iterdir() if p.name != LOCK and not atomic.is_unfinished(p)]
            if others and not self.holds_run:
                raise InputError(
                    f"{path} holds other files and no {MANIFEST}; give --out a new or an empty folder"
                )
            self._lock = _lock(path / LOCK)
            atomic.remove_unfinished(path)
            log.mend(path)
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
        """True if it has been written what is evaluated."""
        return holds_run(self.path)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Writes run.json, with a hash of its content."""
        text = sealed({"format_version": FORMAT_VERSION, **manifest})
        atomic.write_text(self.path / MANIFEST, text)

    def begin(self, manifest: dict[str, Any]) -> None:
        """Writes the header: what run.json says while nothing has changed."""
        number = len(read_log(self.path).changes) + 1
        self.log(log.Began(number))
        header = {"format_version": FORMAT_VERSION, COMMAND: number, **manifest}
        atomic.write_text(self.path / HEADER, json.dumps(header, indent=1) + "\n")
        (self.path / MANIFEST).unlink(missing_ok=True)

    def end(self, manifest: dict[str, Any], units: Sequence[str]) -> None:
        """Writes run.json, and puts outcomes together.

        Args:
            units: whose rows the file of outcomes has, in this order.
        """
        reader, rows, together = _Reader(self.path), {}, self.path / TOGETHER
        for unit in filter(_UNIT.fullmatch, units):
            with suppress(outcomes.DamagedFile):
                rows[unit] = reader.read(unit)[0]
        if together.exists() and (reader.log.done.keys() & units) - rows.keys():  # it may be whole
            together.replace(together.with_name(f"{TOGETHER}.damaged"))
        outcomes.write_units(together, rows, outcomes.LEVEL_TOGETHER)
        self.write_manifest(manifest)
        (self.path / HEADER).unlink(missing_ok=True)
        for unit in rows:
            self._outcomes(unit).unlink(missing_ok=True)
        with suppress(OSError):  # it holds a damaged file, or what somebody else has put there
            (self.path / "outcomes").rmdir()

    def settle(self) -> None:
        """Leaves what is finished of a run that is stopped as the end of a run does."""
        if (self.path / HEADER).is_file():
            manifest = read_manifest(self.path)
            units = [
                unit for record in manifest["cases"] for unit in (*record["units"], *record["random_batches"])
            ]
            self.end(manifest, [*units, *manifest.get("superseded", ())])

    def clear(self) -> None:
        """Removes what runs write, for ``--overwrite``, and nothing else.

        run.json is removed last: if this is killed, the folder is still a run folder with missing units.
        """
        for name in (*WRITTEN, HEADER, MANIFEST):
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
        """Stores a finished unit. Its line in the log is written last, and is the commit."""
        if adversarials:
            atomic.write_bytes(perturbed_file(self.path, unit), adversarials)
        rows = outcomes.with_short_margins(rows)
        outcomes.write_units(self._outcomes(unit), {unit: rows})
        done = log.Done(unit, content_of(outcomes.digest_of(rows), unit, metadata), metadata, timing)
        self.log(done)

    def log(self, *events: log.Event) -> None:
        """Adds lines to the log."""
        log.append(self.path, events)

    def committed(self, units: Iterable[str]) -> tuple[dict[str, dict], dict[str, str]]:
        """Looks up what the folder holds of these units.

        Returns:
            the metadata of each unit whose rows match the log, and for each other unit that the log has the
            reason why it can't be trusted.
        """
        reader = _Reader(self.path)
        trusted, damaged = {}, {}
        for unit in units:
            if unit in reader.log.done:
                try:
                    trusted[unit] = reader.read(unit)[1].metadata
                except outcomes.DamagedFile as error:
                    damaged[unit] = str(error)
        return trusted, damaged

    def set_aside(self, units: Iterable[str]) -> list[Path]:
        """Renames the files that these damaged units are in, so that they are computed again.

        Returns:
            the new paths. A file of many units, of which only some do not match the log, stays.
        """
        files = [self._outcomes(unit) for unit in units if _UNIT.fullmatch(unit)]
        together = self.path / TOGETHER
        try:
            outcomes.units_in(together)
        except (outcomes.DamagedFile, OSError):
            files.append(together)
        aside = [(file, file.with_name(file.name + ".damaged")) for file in files if os.path.lexists(file)]
        return [file.replace(to) for file, to in aside]

    def remove(self, units: Iterable[str]) -> None:
        """Removes units that are no longer in the plan, for example those of another number of draws."""
        known = read_log(self.path)
        held = known.done.keys() | known.failures
        gone = tuple(unit for unit in units if unit in held and _UNIT.fullmatch(unit))
        if gone:
            self.log(log.Dropped(gone))
        for unit in gone:
            self._outcomes(unit).unlink(missing_ok=True)
            perturbed_file(self.path, unit).unlink(missing_ok=True)

    def _outcomes(self, unit: str) -> Path:
        return self.path / "outcomes" / f"{unit}.parquet"


class _Reader:
    """Units of a run folder, by what its log says."""

    def __init__(self, path: Path):
        self.path, self.log = path, read_log(path)

    def read(self, unit: str) -> tuple[pa.Table, log.Done]:
        """Rows of a unit, and its line.

        Raises:
            DamagedFile: no file has rows that match the line.
        """
        done = self.log.done.get(unit)
        if done is None:
            raise outcomes.DamagedFile(f"the log has no unit {unit}")
        faults = []
        for file in (self.path / "outcomes" / f"{unit}.parquet", self.path / TOGETHER):
            if _UNIT.fullmatch(unit) is None or not os.path.lexists(file):
                continue
            try:
                found = outcomes.units_in(file).get(unit, _NOTHING)
            except (outcomes.DamagedFile, OSError) as error:
                faults.append(str(error))
                continue
            if content_of(found.digest, unit, done.metadata) == done.content:
                return found.rows, done
            faults.append(f"{file.name} does not hold what the log says of {unit}")
        raise outcomes.DamagedFile((faults or [f"the outcomes of unit {unit} are missing"])[0])


_NOTHING = outcomes.UnitRows(SCHEMA.empty_table(), outcomes.digest_of(SCHEMA.empty_table()))


def content_of(digest: str, unit: str, metadata: dict[str, Any]) -> str:
    """Hash of a unit's rows, by their own digest, and of what the log says of them."""
    text = json.dumps([digest, unit, metadata], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def holds_run(path: Path) -> bool:
    """True if a folder says what is evaluated, at the end of a run or while it goes on."""
    return any((path / name).exists() for name in (MANIFEST, HEADER))


def perturbed_file(run: Path, unit: str) -> Path:
    """The file that has the perturbed inputs of a unit while a run goes on."""
    return run / "adversarials" / f"{unit}.safetensors"


def stores_inputs(path: Path) -> bool:
    """True if a run folder has perturbed inputs, which ``--save-adversarials`` stores."""
    return (path / ADVERSARIALS).is_file() or (path / "adversarials").is_dir()


def runs_below(folder: Path) -> list[Path]:
    """The folders of all runs below a folder, in order.

    Raises:
        InputError: there is none.
        OSError: the folder can't be looked into; a search passes over that silently since Python 3.13.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        folder.stat()
    runs = sorted({file.parent for name in (MANIFEST, HEADER) for file in folder.rglob(name)})
    if not runs:
        raise InputError(f"{folder} holds no run; csrobust eval writes one")
    return runs


def read_manifest(path: Path) -> dict[str, Any]:
    """run.json of a run folder; of a run that goes on, what it would say now.

    Raises:
        InputError: there is none, it can't be read, it was edited, or it has another format.
    """
    file = path / (HEADER if (path / HEADER).is_file() else MANIFEST)
    if not file.is_file():
        inside = path.is_file() and (path.parent / MANIFEST).is_file()
        hint = f"; it is a file of the run {path.parent}" if inside else ""
        why = f"it has no {MANIFEST}" if path.exists() else "there is no such folder"
        raise InputError(f"{path} is not a run folder ({why}){hint}")
    mend = "restore it, or start the run anew with --overwrite"
    try:
        manifest = json.loads(file.read_text())
        version = int(manifest["format_version"])
        own_hash = manifest.pop(HASH, None)
        if version == FORMAT_VERSION and file.name == HEADER:
            for change in read_log(path).changes.get(manifest.pop(COMMAND), ()):
                manifest = changed(manifest, change)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} can't be read; {mend}") from error
    if version != FORMAT_VERSION:
        mend = "update csrobust" if version > FORMAT_VERSION else "start the run anew with --overwrite"
        raise InputError(f"{file} has format {version}, this csrobust reads {FORMAT_VERSION}; {mend}")
    if file.name != HEADER and own_hash != _hash_of(manifest):
        raise InputError(f"{file} was changed after the run had written it; {mend}")
    return manifest


def sealed(manifest: dict[str, Any]) -> str:
    """The text of run.json, with a hash of what it says."""
    content = {name: value for name, value in manifest.items() if name != HASH}
    return json.dumps({**content, HASH: _hash_of(content)}, indent=1) + "\n"


def _hash_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def changed(manifest: dict[str, Any], change: log.Changed) -> dict[str, Any]:
    """What run.json says after a change."""
    moved = {_key(record["case"]) for _, record in change.cases} | {_key(case) for case in change.gone}
    records = [record for record in manifest["cases"] if _key(record["case"]) not in moved]
    for place, record in change.cases:
        records.insert(place, record)
    return {**manifest, **change.fields, "cases": records}


def change_between(before: dict[str, Any], now: dict[str, Any]) -> log.Changed:
    """The change that makes ``before`` what run.json says now."""
    old = {_key(record["case"]): record for record in before["cases"]}
    new = {_key(record["case"]): (place, record) for place, record in enumerate(now["cases"])}
    fields = {name: value for name, value in now.items() if name != "cases" and before.get(name) != value}
    gone = tuple(record["case"] for key, record in old.items() if key not in new)
    change = log.Changed(tuple(pair for key, pair in new.items() if old.get(key) != pair[1]), gone, fields)
    moved = changed(before, change)["cases"] != [*now["cases"]]  # among each other, which is rare
    return log.Changed(tuple(new.values()), gone, fields) if moved else change


def _key(case: dict[str, Any]) -> str:
    return json.dumps(case, sort_keys=True)


def read_run(path: Path, units: Sequence[str]) -> tuple[pd.DataFrame, dict[str, dict], dict[str, dict]]:
    """Outcomes and costs of a run's units, in the order of ``units``.

    Returns:
        the rows of all units, each unit's metadata and each unit's timing. Missing or damaged units are left
        out of all three; the caller must notice.

    Raises:
        InputError: the file of all units can't be read. Without it nothing is left of the run, and reports
            written again would lose what the earlier ones say.
    """
    try:
        outcomes.units_in(path / TOGETHER)
    except (outcomes.DamagedFile, OSError) as error:
        raise InputError(
            f"{path / TOGETHER} can't be read; restore it, or run the command of the run, which computes it "
            "again"
        ) from error
    reader, tables, metadata, timings = _Reader(path), [], {}, {}
    for unit in units:
        with suppress(outcomes.DamagedFile):
            rows, done = reader.read(unit)
            tables.append(rows)
            metadata[unit], timings[unit] = done.metadata, done.timing
    return _concatenated(tables), metadata, timings


def read_failures(path: Path, units: Sequence[str]) -> dict[str, log.Failed]:
    """Why units have no outcomes, for those that failed."""
    failures = read_log(path).failures
    return {unit: failures[unit] for unit in units if unit in failures}


def read_selftests(path: Path) -> dict[str, dict[str, Any]]:
    """Results of self-tests, by their id."""
    return read_log(path).selftests


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
