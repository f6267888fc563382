"""What an ablation has found out so far: two CSV files, from which it goes on and its tables are made."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_text


class Measurement(NamedTuple):
    """One accuracy of one run."""

    run: str  # digest of its configuration, seed included
    recipe: str
    seed: int
    inference: str
    attack: str
    k: int
    draws: int
    eps: float  # linf, pixel units; 0 for clean inputs
    examples: int
    accuracy: float | None  # None: the run diverged
    loss: float | None  # cross-entropy in nats, of standard inference on clean inputs

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that decides the figures."""
        return self[:1] + self[3:9]


class EpochRecord(NamedTuple):
    """One epoch of one run."""

    run: str
    recipe: str
    seed: int
    epoch: int  # from 1
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None


Row = TypeVar("Row", Measurement, EpochRecord)


class Records(Generic[Row]):
    """Rows in a CSV file, written whole or not at all.

    Raises:
        InputError: the file is not one of these.
    """

    def __init__(self, path: Path, kind: type[Row]):
        self.path = path
        self._kind: type[Row] = kind
        self.rows: list[Row] = _read(path, kind) if path.is_file() else []

    def add(self, rows: Iterable[Row]) -> None:
        """Appends rows and brings the file up to date."""
        self.rows += rows
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self._kind._fields)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        write_text(self.path, text.getvalue())


def _read(path: Path, kind: type[Row]) -> list[Row]:
    types = [kind.__annotations__[name] for name in kind._fields]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        if tuple(header) != kind._fields:
            raise ValueError(f"expected the columns {', '.join(kind._fields)}")
        return [kind(*(_value(text, of) for text, of in zip(line, types, strict=True))) for line in lines]
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: not written by an ablation ({error}); give another --out, or remove it to start again"
        ) from error


def _value(text: str, of: Any) -> Any:
    """A field in the type of its annotation."""
    if of == float | None:
        return float(text) if text else None
    return of(text)
