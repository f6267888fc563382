"""Certificates of a subject in a run folder: one JSON file for each subject and
perturbation.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.schema.case import Perturbation, Subject, ThreatModel


class Certificate(Struct, frozen=True, kw_only=True):
    """One kind of bound for one subject within one perturbation.

    Attributes:
        inputs, randomness: of the threat models that it holds under.
        method: how it was found, in words.
        missing: why there is none, as a clause; empty where there is one.
        chance: whether ``right`` bounds the probability of a right answer in a fresh draw, and holds with
            probability 1 - ``alpha`` for all examples together; else each is of one draw, and certain.
        alpha, samples: of bounds that are counted; samples of each example.
        example, batch: of each example.
        draw: scoring draws, in order; one, of no meaning, where ``chance``.
        right: [examples][draws], 1 where the answer is right whatever an attack does, else 0, or a
            probability.
    """

    subject: Subject
    perturbation: Perturbation
    inputs: tuple[str, ...] = ()
    randomness: tuple[str, ...] = ()
    method: str = ""
    missing: str = ""
    chance: bool = False
    alpha: float | None = None
    samples: int | None = None
    example: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    draw: tuple[int, ...] = ()
    right: tuple[tuple[float, ...], ...] = ()

    def covers(self, threat: ThreatModel) -> bool:
        """True if it holds under a threat model."""
        return threat.inputs in self.inputs and threat.randomness in self.randomness


FOLDER = "certificates"
MOST_BYTES = 1 << 28
_NAME = re.compile(r"[0-9a-f]{20}\.json")


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one file; ``settings`` are what decided it, beside subject and perturbation."""

    settings: str
    certificates: tuple[Certificate, ...]


def write_certificates(run: Path, name: str, stored: Stored) -> None:
    """Replaces one file; ``name`` is 20 hexadecimal digits."""
    write_bytes(run / FOLDER / f"{name}.json", msgspec.json.encode(stored) + b"\n")


def read_stored(run: Path, name: str) -> Stored | None:
    """One file; None where there is none that can be read."""
    return _read(run / FOLDER / f"{name}.json")


def read_certificates(run: Path) -> Sequence[Certificate]:
    """All certificates of a run folder, in the order of their files. What can't be read is left out."""
    folder = run / FOLDER
    files = sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name)) if folder.is_dir() else []
    return [c for file in files if (stored := _read(file)) for c in stored.certificates if _sound(c)]


def _read(file: Path) -> Stored | None:
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return None
        return msgspec.json.decode(file.read_bytes(), type=Stored)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def _sound(certificate: Certificate) -> bool:
    """True if its parts fit together; a folder may come from anybody."""
    examples, draws = len(certificate.example), len(certificate.draw)
    return (
        len(certificate.batch) == examples == len(certificate.right)
        and all(len(row) == draws for row in certificate.right)
        and all(0 <= share <= 1 for row in certificate.right for share in row)
        and len(set(certificate.example)) == examples
        and len(set(certificate.draw)) == draws
        and bool(certificate.missing) != bool(examples and draws)
    )
