"""Atomic writes: a file appears complete or not at all."""

import os
import secrets
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to a temporary file, syncs it and renames it to ``path``.

    The folder is synced, too: a committed file survives a power failure.
    """
    replace_bytes(path, content, sync=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_bytes(path: Path, content: bytes, *, sync: bool = False) -> None:
    """The same without syncing the folder, and the file only if ``sync``: a power failure may lose it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` of UTF-8 text."""
    write_bytes(path, content.encode())


def replace_text(path: Path, content: str) -> None:
    """``replace_bytes`` of UTF-8 text."""
    replace_bytes(path, content.encode())


def is_unfinished(path: Path) -> bool:
    """Whether a file is a temporary file of a killed writer."""
    return path.name.startswith(".") and path.suffix == ".part"


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files of killed writers; nothing else may be writing into the folder."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)
