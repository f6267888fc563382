"""One evaluation from options to a finished run folder, or to what keeps it from its end."""

import math
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine.run import Engine, EngineError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.run_unit import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.run_file import run_toml
from robustbench_coded.evaluation.session import selftesting
from robustbench_coded.evaluation.session.driver import run_steps
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.planning import outlook_of, planned_evaluation
from robustbench_coded.evaluation.session.recording import Recorder
from robustbench_coded.evaluation.session.run_plan import Work
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.run import load_run
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.folder import RUN_FILE, RunFolder
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.threads import subnormals_flushed
from robustbench_coded.user_code import TimeIsUp, until


class IncompleteRun(Exception):
    """Some units of a run failed: their cases are incomplete in the report."""

    def __init__(self, path: Path, failures: Sequence[UnitFailure]):
        self.path = path
        self.failures = tuple(failures)
        first = failures[0]
        case = first.unit.case
        super().__init__(
            f"{len(failures)} units failed, the first: {case.attack} on {case.subject.checkpoint} behind "
            f"{case.subject.label}: {first.error}"
        )


class RunStopped(Exception):
    """A run could not go on, for a reason that has nothing to do with any one unit."""

    def __init__(self, path: Path, error: Exception):
        self.path = path
        reason = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
        super().__init__(f"{path}: {reason}")


@contextmanager
def opened_folder(folder: RunFolder, listener: Listener, write: Callable[[Path], Any]) -> Iterator[RunFolder]:
    """Locks a run folder for the time of a run; finished units survive any interruption.

    Args:
        write: the report of what is finished, where the run is stopped from outside or its time is up.

    Raises:
        RunStopped: the disk or the workers fail.
    """
    with folder:
        listener.opened(folder.path)
        try:
            yield folder
        except (KeyboardInterrupt, TimeIsUp) as stopped:
            listener.stopping()
            if folder.holds_run:
                folder.settle()
                write(folder.path)
            if isinstance(stopped, KeyboardInterrupt):
                raise
        except (OSError, EngineError) as error:
            raise RunStopped(folder.path, error) from error
        finally:
            listener.close()


@subnormals_flushed()
def evaluate(
    config: EvalConfig,
    listener: Listener | None = None,
    in_memory: InMemory | None = None,
    *,
    fresh: bool = False,
) -> Path:
    """Runs an evaluation, or goes on with it, and writes its reports.

    Units that the folder already holds are not computed again; options that change what a unit means give it
    another identity, so that a folder never mixes the two.

    Args:
        in_memory: data, models and defences that are in memory already; None for none, but for what a defence
            of the zoo brings.
        fresh: without ``out``, take a new temporary folder.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    end = math.inf if config.time is None else time.monotonic() + config.time
    with until(end):
        return _evaluate(config, listener or Listener(), in_memory, fresh=fresh)


def _evaluate(config: EvalConfig, listener: Listener, in_memory: InMemory | None, *, fresh: bool) -> Path:
    given = config if in_memory is None else None
    try:
        prepared, path = made_ready(config, in_memory, listener.preparing)
    except TimeIsUp:
        raise InputError(
            f"--time {config.time:g}s is over before every defence was probed, and no attack has begun; give "
            "more time"
        ) from None
    if fresh and config.out is None:
        path = Path(tempfile.gettempdir()) / f"csrobust-{path.name}-{secrets.token_hex(4)}"
    with (
        opened_folder(RunFolder(path), listener, partial(_write_reports, given, listener)) as folder,
        Engine(prepared.context) as engine,
    ):
        if prepared.config.overwrite:
            folder.clear()
        old = load_manifest(path) if folder.holds_run else None
        evaluation = planned_evaluation(prepared, old, path)
        prepared = selftesting.with_selftests(evaluation.prepared)
        recorder = Recorder(replace(evaluation, prepared=prepared), folder, listener)
        if old is not None:
            units = f"{len(recorder.held):,} finished units"
            listener.note(f"goes on with the run in {path}, which holds {units}")
        for text in as_sentences([*prepared.notes, *evaluation.notes]):
            listener.note(text)
        done, store = recorder.done, recorder.store
        try:
            results = run_steps(recorder, Work(engine, folder, prepared, done, store, listener))
        finally:
            recorder.note_changes()
        _write_run_file(path, given)
        recorder.finish(results, outlook_of(recorder.evaluation, results))
    if recorder.done.failures:
        raise IncompleteRun(path, list(recorder.done.failures.values()))
    return path


def _write_run_file(path: Path, config: EvalConfig | None) -> None:
    """Replaces run.toml, the options of the last evaluation; removes it where no file can repeat that."""
    text = None if config is None else run_toml(config)
    if text is None:
        (path / RUN_FILE).unlink(missing_ok=True)
    else:
        write_text(path / RUN_FILE, text)


def _write_reports(config: EvalConfig | None, listener: Listener, path: Path) -> None:
    """Reports what is finished of an evaluation that is stopped."""
    from robustbench_coded.reports.write import write_reports_of  # imports matplotlib

    _write_run_file(path, config)
    run = load_run(path)
    write_reports_of(run)
    listener.reported(run)
