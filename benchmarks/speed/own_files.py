"""The outcome files of a committed run, one for each unit, as a run has them while it is at work."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robustbench_coded.runs.outcomes import unpack


@contextmanager
def own_files(run: Path) -> Iterator[Path]:
    """A copy of a run folder in which every unit has its own files."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        for kind in ("outcomes", "timings"):
            shutil.copytree(run / kind, copy / kind)
        unpack(copy)
        yield copy
