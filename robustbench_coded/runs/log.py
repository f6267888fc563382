"""log.jsonl: one line for each thing that happened in a run folder, in order; none is ever changed.

A unit counts once its line is there, and its rows match the digest in it. A line that was torn by a kill or a
full disk is no line: readers pass over it, and the next writer cuts it off.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

NAME = "log.jsonl"
MAX_BYTES = 1 << 30


class Began(Struct, frozen=True, tag="began", tag_field="event"):
    """A command has begun, the first, second ... in this folder; its header has the number, too."""

    command: int


class Done(Struct, frozen=True, tag="done", tag_field="event"):
    """A unit has outcomes.

    Attributes:
        unit: its id. content: a hash of its rows and its metadata.
        metadata: counts of what it computed; the same each time. timing: seconds and bytes.
    """

    unit: str
    content: str
    metadata: dict[str, Any]
    timing: dict[str, Any] = {}


class Failed(Struct, frozen=True, tag="failed", tag_field="event"):
    """A unit has no outcomes, and why."""

    unit: str
    error: str
    attempts: int = 0
    details: str = ""


class Dropped(Struct, frozen=True, tag="dropped", tag_field="event"):
    """Units that others have replaced, of another number of draws for example."""

    units: tuple[str, ...]


class Tested(Struct, frozen=True, tag="tested", tag_field="event"):
    """Results of the self-tests of one subject."""

    id: str
    results: dict[str, Any]


class Stepped(Struct, frozen=True, tag="step", tag_field="event"):
    """What the protocol takes next: a rung, cases and images, and what they cost."""

    need: dict[str, Any]


class Changed(Struct, frozen=True, tag="changed", tag_field="event", omit_defaults=True):
    """What differs from the header, or from an earlier line, in what run.json will say.

    Attributes:
        cases: records that are new or have changed, each with its place among all. gone: cases without a
            record now. fields: other fields.
    """

    cases: tuple[tuple[int, dict[str, Any]], ...] = ()
    gone: tuple[dict[str, Any], ...] = ()
    fields: dict[str, Any] = {}


Event = Began | Done | Failed | Dropped | Tested | Stepped | Changed
_READER = msgspec.json.Decoder(Event)


@dataclass
class Log:
    """What the lines say, the last one of each unit.

    Attributes:
        done, failures: by unit; a unit is in one of them at most. selftests: by id.
        changes: by the number of the command, in order.
    """

    done: dict[str, Done] = field(default_factory=dict)
    failures: dict[str, Failed] = field(default_factory=dict)
    selftests: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[int, list[Changed]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Takes note of one line."""
        match event:
            case Began(command=number):
                self.changes[number] = []
            case Done(unit=unit):
                self.failures.pop(unit, None)
                self.done[unit] = event
            case Failed(unit=unit):
                self.done.pop(unit, None)
                self.failures[unit] = event
            case Dropped(units=units):
                for unit in units:
                    self.done.pop(unit, None)
                    self.failures.pop(unit, None)
            case Tested(id=name, results=results):
                self.selftests[name] = results
            case Changed() if self.changes:
                self.changes[max(self.changes)].append(event)


def read_log(path: Path) -> Log:
    """The log of a run folder; empty where there is none. Lines that can't be read count as none.

    Raises:
        OSError: the file system fails.
    """
    log, file = Log(), path / NAME
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        return log
    for line in _whole_lines(file.read_bytes()):
        with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
            log.apply(_READER.decode(line))
    return log


def append(path: Path, events: Iterable[Struct]) -> None:
    """Adds lines to the log of a run folder, synced to the disk.

    Raises:
        OSError: the file system fails; the log is as before.
    """
    content = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    with (path / NAME).open("ab") as file:
        before = file.tell()
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def mend(path: Path) -> None:
    """Cuts off a torn last line; nothing else may be writing into the folder."""
    file = path / NAME
    if not file.is_file():
        return
    content = file.read_bytes()
    if whole := sum(len(line) + 1 for line in _whole_lines(content)):
        os.truncate(file, whole)
    else:
        file.unlink()


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]
