"""Output folders that are made before the work whose results they take."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustbench_coded.errors import InputError


def made(folder: Path) -> Path:
    """Makes a folder: hours of work are not to end at one that can't be written.

    Raises:
        InputError: it is a file, or the system refuses it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {folder} is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {folder} can't be written ({error.strerror}); give another") from error
    return folder


@contextmanager
def made_for(folder: Path) -> Iterator[Path]:
    """`made`, and removed again where the work is refused and the folder is empty.

    Raises:
        InputError: as `made`.
    """
    was_there = folder.exists()
    made(folder)
    try:
        yield folder
    except InputError:
        if not was_there:
            with suppress(OSError):  # something is in it
                folder.rmdir()
        raise
