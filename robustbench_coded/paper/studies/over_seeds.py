"""Records of studies over seeds in CSV files and states of trainings, from which a stopped
one goes on, and means over seeds with intervals.
"""

import csv
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.escape import csv_document, csv_text
from robustbench_coded.runs.atomic import write_bytes, write_text

TAIL = 0.025

Row = TypeVar("Row", bound=tuple[Any, ...])
T = TypeVar("T")


class Records(Generic[Row]):
    """Rows in a CSV file, written whole or not at all.

    Args:
        path: goes on with what it holds.
        kind: of a row, a NamedTuple of ``str``, ``int``, ``float``, and these or None.

    Raises:
        InputError: the file is not one of these.
    """

    def __init__(self, path: Path, kind: type[Row]):
        self.path = path
        self._hints = get_type_hints(kind)
        self.rows: list[Row] = self._read(kind) if path.is_file() else []

    def add(self, rows: Iterable[Row]) -> None:
        """Appends rows and brings the file up to date."""
        self.rows += rows
        write_text(self.path, csv_document(self._hints, self.rows))

    def _read(self, kind: Any) -> list[Row]:
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                header, *lines = csv.reader(file)
            if header != list(self._hints):
                raise ValueError(f"expected the columns {', '.join(self._hints)}")
            # An empty field is None.
            return [msgspec.convert([text or None for text in line], kind, strict=False) for line in lines]
        except (OSError, ValueError, csv.Error, msgspec.ValidationError) as error:
            raise InputError(
                f"{self.path}: not written by this command ({error}); give another --out, or remove it to "
                "start again"
            ) from error


def save_state(path: Path, fingerprint: str, state: Mapping[str, Any]) -> None:
    """Writes the state of an unfinished training, whole or not at all.

    Args:
        fingerprint: of the training's options.
        state: tensors and plain values.
    """
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, **state}, buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Loads what `save_state` stored; None where there is no file.

    Raises:
        InputError: the file is of other options, or damaged.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = state.pop("fingerprint")
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError, OSError) as error:
        raise InputError(f"{path}: damaged state of an unfinished run; remove it to start again") from error
    if before != fingerprint:
        raise InputError(
            f"{path}: an unfinished run with other options; finish it with those, or remove it to start again"
        )
    return state


def csv_cell(value: object, digits: int = 6) -> object:
    """A field of a CSV file: floats with so many digits, no text begins a formula."""
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return csv_text(value) if isinstance(value, str) else value


class SeedSpread(NamedTuple):
    """A mean over seeds and Student's interval; None of it from a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    def text(self, digits: int = 2, sign: str = "") -> str:
        """``12.34 [11.90, 12.78]``"""
        ends = "" if self.low is None else f" [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"
        return f"{self.mean:{sign}.{digits}f}{ends}"


def spread(values: Sequence[float] | NDArray[np.float64]) -> SeedSpread:
    """Of one value for each seed, with a 95% interval."""
    array = np.asarray(values, np.float64)
    mean, seeds = float(array.mean()), len(array)
    if seeds < 2:
        return SeedSpread(mean, None, None, seeds)
    reach = float(stdtrit(seeds - 1, 1 - TAIL) * array.std(ddof=1) * np.sqrt(1 / seeds))
    return SeedSpread(mean, mean - reach, mean + reach, seeds)
