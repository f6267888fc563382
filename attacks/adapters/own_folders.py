"""Where modules of the user's own code are looked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_folders_first(*more: Path) -> Iterator[None]:
    """Looks for modules in the current folder first, as ``python -m`` does, and then in ``more``."""
    folders = [str(Path.cwd()), *map(str, more)]
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            if folder in sys.path:
                sys.path.remove(folder)
