"""Submissions: the rules of the leaderboard, the check of an entry, and what `csrobust submit` packs."""

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from robustbench_coded.errors import InputError
from robustbench_coded.judge.run import GO_ON, RunData, run_data
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.folder import MANIFEST, holds_run, stores_inputs
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS

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
        claim: what the paper claims, with data set and perturbation; reported: that as a fraction.
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
    """A run folder by the name of what the board was given, and its submitter's entry; None for a run of this
    project.
    """

    name: str
    path: Path
    entry: SubmittedEntry | None


def source_at(path: Path) -> Source:
    """The contents of a folder.

    Raises:
        InputError: neither a run nor a submitted entry, or an entry whose files are not those of its hashes.
    """
    name = path.resolve().name
    if (path / ENTRY).is_file():
        check_hashes(path)
        return Source(name, path / RUN, read_entry(path / ENTRY))
    if holds_run(path):
        return Source(name, path, None)
    raise InputError(f"{path} holds neither a run ({MANIFEST}) nor a submitted entry ({ENTRY})")


def read_entry(path: Path) -> SubmittedEntry:
    """entry.toml, checked.

    Raises:
        InputError: it can't be read, or a field is missing, unknown or of the wrong kind.
    """
    try:
        entry = msgspec.toml.decode(path.read_bytes(), type=SubmittedEntry)
    except OSError as error:
        raise InputError(f"--entry {path} can't be read: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}; docs/board.md lists the fields") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
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
    actual = hashes_of(folder).splitlines()
    if changed := sorted({line[66:] for line in set(listed) ^ set(actual)}):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{folder}: {changed[0]}{more} is not as it was submitted ({HASHES}); submit the run again"
        )


FEWEST_EXAMPLES = 128  # 0 of so many right leave an upper end below the margin of 3 points
FEWEST_DRAWS = 4


def broken_rules(run: RunData, entry: SubmittedEntry) -> Iterator[str]:
    """A sentence on each rule that a submission breaks; the first is where to begin."""
    subjects = {record.case.subject for record in run.manifest.cases}
    wanted = {s for s in subjects if (s.defence, s.checkpoint) == (entry.defence, entry.checkpoint)}
    cases = [record for record in run.manifest.cases if record.case.subject in wanted]
    if not cases:
        there = sorted({f"{subject.defence} on {subject.checkpoint}" for subject in subjects})
        yield f"the run has no {entry.defence} on {entry.checkpoint}; it has {', '.join(there)}"
        return
    if run.missing:
        yield f"the run is not complete: {run.missing}; {GO_ON}"
    if not stores_inputs(run.path):
        yield "no perturbed inputs are stored, so it cannot be verified; run it with --save-adversarials"
    for probe in run.manifest.probes:
        if probe.subject == cases[0].case.subject and probe.contradictions:
            yield f"the defence contradicts itself: it {probe.contradictions[0]}"
    if all(command.options.get("checks") is False for command in run.manifest.invocations):
        yield "its attacks were named, or its norm has no default protocol; run the protocol: no --attacks"
    whole = [case for case in cases if case.case.threat == WHOLE_BATCH]
    attacked = [case for case in whole if case.case.attack not in CONTROLS]
    examples = min((case.examples_planned for case in attacked), default=0)
    if examples < FEWEST_EXAMPLES:
        yield f"it has {examples} examples, and {FEWEST_EXAMPLES} are the fewest; raise --limit"
    draws = min((case.draws for case in attacked), default=0)
    if cases[0].randomised and draws < FEWEST_DRAWS:
        yield f"it has {draws} scoring draws, and {FEWEST_DRAWS} are the fewest; raise --draws"


@contextmanager
def entry_opened(folder: Path) -> Iterator[Path]:
    """The folder of the run in an entry; within it, modules are looked for among the entry's code first.

    Raises:
        InputError: a file was changed since the entry was submitted.
    """
    source = source_at(folder)
    code, writes = str((folder / CODE).resolve()), sys.dont_write_bytecode
    sys.path.insert(0, code)
    sys.dont_write_bytecode = True  # the folder stays as its hashes say
    try:
        yield source.path
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(code)


# What a report is made of again, and what a run keeps for itself alone.
LEFT_OUT = (".lock", "*.part", "perturbed", "figures", "report.html")


def submit(path: Path, entry_file: Path, out: Path, code: Sequence[Path] = ()) -> Path:
    """Checks a run against the rules of the leaderboard and writes the folder of its entry.

    Args:
        path: the run folder.
        entry_file: entry.toml.
        out: the folder below which the entry's own is made, named by the defence.
        code: files of a user defence, so that others can load it.

    Raises:
        InputError: the entry or the run breaks a rule, a file is missing, or there is an entry of that name.
    """
    entry, run = read_entry(entry_file), run_data(path)
    if broken := list(broken_rules(run, entry)):
        more = f" (and {len(broken) - 1} more: {'; '.join(broken[1:])})" if len(broken) > 1 else ""
        raise InputError(f"{run.path} can't go on the leaderboard: {broken[0]}{more}")
    if missing := [file for file in code if not file.is_file()]:
        raise InputError(f"--code {missing[0]} is no file; name the files that the defence is imported from")
    folder = out / (re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")[:60] or "entry")
    if folder.exists():
        raise InputError(f"{folder} is there already; remove it, or give the entry another name")
    shutil.copytree(path, folder / RUN, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for file in code:
        (folder / CODE).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / CODE / file.name)
    write_text(folder / ENTRY, entry_file.read_text(encoding="utf-8"))
    write_text(folder / HASHES, hashes_of(folder))
    return folder
