"""A run that does not come to its end: stopped from outside, by disk or workers, or by failing units."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustbench_coded.engine.worker_pool import EngineError
from robustbench_coded.evaluation.execution.results import UnitFailure
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.session.listener import Listener


class IncompleteRun(Exception):
    """Some units of a run failed: their rows are incomplete in the report."""

    def __init__(self, path: Path, failures: Sequence[UnitFailure]):
        self.path = path
        self.failures = tuple(failures)
        first = failures[0]
        row = first.unit.row
        super().__init__(
            f"{len(failures)} units failed, the first: {row.attack} on {row.subject.checkpoint} behind "
            f"{row.subject.label}: {first.error}"
        )


class RunStopped(Exception):
    """A run could not go on, for a reason that has nothing to do with any one unit."""

    def __init__(self, path: Path, error: Exception):
        self.path = path
        reason = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
        super().__init__(f"{path}: {reason}")


@contextmanager
def opened_folder(folder: RunFolder, listener: Listener, write: Callable[[Path], Any]) -> Iterator[RunFolder]:
    """Locks a run folder for the time of a run; whatever stops it, finished units are kept.

    Args:
        write: the report of what is finished, where the run is stopped from outside.

    Raises:
        RunStopped: the disk or the workers fail.
    """
    with folder:
        listener.opened(folder.path)
        try:
            yield folder
        except KeyboardInterrupt:
            listener.stopping()
            if folder.holds_run:
                write(folder.path)
            raise
        except (OSError, EngineError) as error:
            raise RunStopped(folder.path, error) from error
