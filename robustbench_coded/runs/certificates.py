"""Certificates in a run folder: one JSON file for each subject and budget."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.schema.certificate import Certificate

FOLDER = "certificates"
MOST_BYTES = 1 << 28
_NAME = re.compile(r"[0-9a-f]{20}\.json")


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one file; ``settings`` are what decided it, beside subject and budget."""

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
    """Whether its parts fit together; a folder may come from anybody."""
    examples, draws = len(certificate.example), len(certificate.draw)
    return (
        len(certificate.batch) == examples == len(certificate.right)
        and all(len(row) == draws for row in certificate.right)
        and all(0 <= share <= 1 for row in certificate.right for share in row)
        and len(set(certificate.example)) == examples
        and len(set(certificate.draw)) == draws
        and bool(certificate.missing) != bool(examples and draws)
    )
