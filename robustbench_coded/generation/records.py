"""Measurements of a training, as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_text


class Point(NamedTuple):
    """A generator at one iteration.

    Attributes:
        distance: Frechet distance to the training images. score: inception score.
        gap: the critic's estimate of the Wasserstein distance.
        generator_seconds, critic_seconds: processor time of the iterations so far, a mean.
    """

    variant: str
    n: int | None
    seed: int
    iteration: int
    distance: float
    score: float
    gap: float
    generator_seconds: float
    critic_seconds: float


def write_points(path: Path, points: Sequence[Point]) -> None:
    """The file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Point._fields)
    for point in points:
        values = [repr(float(value)) if isinstance(value, float) else value for value in point]
        writer.writerow(["" if value is None else value for value in values])
    write_text(path, text.getvalue())


def read_points(path: Path) -> list[Point]:
    """Measurements of a file; none where it is not there.

    Raises:
        InputError: it is another file.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        if tuple(head) != Point._fields:
            raise ValueError("other columns")
        return [
            Point(variant, int(n) if n else None, int(seed), int(iteration), *(float(text) for text in rest))
            for variant, n, seed, iteration, *rest in lines
        ]
    except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: no history of a training ({error}); give another --out") from error
