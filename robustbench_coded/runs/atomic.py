"""Atomic writes: a file appears complete or not at all."""

import os
import secrets
from pathlib import Path


def write_bytes(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Writes ``content`` to a temporary file and renames it to ``path``; folders are made.

    Args:
        synced: whether the file and its folder are synced to the disk, so that a committed file survives a
            power failure. It takes longer than writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if synced:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, content: str, *, synced: bool = True) -> None:
    """``write_bytes`` of UTF-8 text."""
    write_bytes(path, content.encode(), synced=synced)


def is_unfinished(path: Path) -> bool:
    """True if a file is a temporary file of a killed writer."""
    return path.name.startswith(".") and path.suffix == ".part"


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files of killed writers; nothing else may be writing into the folder."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)
