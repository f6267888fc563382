"""Where an entry comes from: folders of runs, and those submitted."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from robustbench_coded.errors import InputError
from robustbench_coded.runs.folder import MANIFEST

HASHES = "SHA256SUMS"
ENTRY, RUN, CODE = "entry.toml", "run", "code"


class SubmittedEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of entry.toml: who submits which defence of a run, and what the paper says of it.

    Attributes:
        name: of the defence, as the board shows it.
        defence, checkpoint: which subject of the run it is, as summary.csv names them.
        link: of the paper; venue, year, authors: of the paper.
        code: where the defence's code is, pinned to a commit; weights: where the checkpoint is.
        contact: whom to ask.
        randomness, coupling: what is drawn anew, what couples the inputs of a batch; '' for nothing.
        claim: what the paper claims, with data set and budget; reported: that as a fraction.
        setting: how the run differs from the paper.
        additional_data: whether more data were used in training.
        breaks: [source, what it reports] of evaluations by others.
    """

    name: str
    defence: str
    checkpoint: str
    link: str
    code: str
    weights: str
    contact: str
    claim: str
    randomness: str = ""
    coupling: str = ""
    setting: str = ""
    authors: str | None = None
    venue: str | None = None
    year: int | None = None
    reported: float | None = None
    additional_data: bool | None = None
    breaks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Source:
    """A run folder, and the entry of its submitter; None for a run of this project."""

    path: Path
    entry: SubmittedEntry | None


def source_at(path: Path) -> Source:
    """What lies in a folder.

    Raises:
        InputError: neither a run nor a submitted entry, or an entry whose files are not those of its hashes.
    """
    if (path / ENTRY).is_file():
        check_hashes(path)
        return Source(path / RUN, read_entry(path / ENTRY))
    if (path / MANIFEST).is_file():
        return Source(path, None)
    raise InputError(f"{path} holds neither a run ({MANIFEST}) nor a submitted entry ({ENTRY})")


def read_entry(path: Path) -> SubmittedEntry:
    """entry.toml, checked.

    Raises:
        InputError: it can't be read, or a field is missing, unknown or of the wrong kind.
    """
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        entry = msgspec.convert(data, SubmittedEntry)
    except OSError as error:
        raise InputError(f"--entry {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}; docs/board.md lists the fields") from error
    empty = [
        name for name in ("name", "link", "code", "contact", "claim") if not getattr(entry, name).strip()
    ]
    if empty:
        raise InputError(f"{path}: {', '.join(empty)} may not be empty; docs/board.md lists the fields")
    if entry.reported is not None and not 0 <= entry.reported <= 1:
        raise InputError(f"{path}: reported = {entry.reported} is not a fraction; write 0.72 for 72%")
    return entry


def hashes_of(folder: Path) -> str:
    """sha256 and name of every file of an entry as sha256sum writes them, but of the list itself."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in (HASHES, ".lock"))
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in files
    )


def check_hashes(folder: Path) -> None:
    """Raises InputError where an entry's files are not those that were submitted."""
    try:
        listed = (folder / HASHES).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} has no {HASHES}; write the entry with csrobust submit") from error
    found = hashes_of(folder).splitlines()
    if changed := sorted({line[66:] for line in set(listed) ^ set(found)}):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{folder}: {changed[0]}{more} is not as it was submitted ({HASHES}); submit the run again"
        )
