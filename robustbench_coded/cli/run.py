"""Running an evaluation at a terminal: progress while it runs, the table at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from robustbench_coded.cli import gate
from robustbench_coded.cli.process import (
    DONE,
    FAILED,
    FAILED_VERDICT,
    INTERRUPTED,
    foreign_output,
    importing,
    stoppable,
)
from robustbench_coded.errors import LOG, InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.models.shipped import present
from robustbench_coded.reports.text.escape import one_line, shell

if TYPE_CHECKING:
    from robustbench_coded.evaluation.session.listener import ProgressListener
    from robustbench_coded.run import Run


def run_evaluation(
    config: EvalConfig,
    *,
    quiet: bool,
    as_json: bool,
    fail_on: str | None = None,
    junit: Path | None = None,
) -> int:
    """Evaluates and prints; the exit code says whether every unit has outcomes.

    Args:
        fail_on: verdicts that end in exit code 3, as typed.
        junit: a file for the verdicts as test cases.

    Raises:
        InputError: ``fail_on`` is given, no verdict fails, and an attack was not tried (`judge.tried`).
    """
    verdicts = gate.NEGATIVE if fail_on is None else gate.verdicts_named(fail_on)
    if junit is not None and not junit.parent.is_dir():
        raise InputError(f"--junit: {junit.parent} is no folder; give another file")
    run: Run | None = None

    def keep_run(listener: ProgressListener) -> Path:
        nonlocal run
        from robustbench_coded.evaluation.session.evaluate import evaluate

        try:
            return evaluate(config, listener)
        finally:
            run = listener.run

    path, code = evaluated(config, keep_run, silent=quiet or as_json)
    if path is None:
        return code
    from robustbench_coded.reports.render.terminal import result

    assert run is not None  # every run that comes to an end is reported
    if as_json:
        print(json.dumps(run.as_data()))
    else:
        Console().print(result(run))
        print(one_line(f"report: {Path(path) / 'report.html'}"))
        print(one_line(f"more:   csrobust show {shell([str(path)])}"))
    from robustbench_coded.judge.tried import asserted, nothing_asserted, untried

    judgements, missing = asserted(run.judgements), untried(run)
    if junit is not None:
        gate.write_junit(junit, judgements, verdicts, missing)
    failing = gate.failing(judgements, verdicts) if fail_on is not None else []
    for line in failing:
        LOG.warning(f"--fail-on: {line}")
    if code != DONE or fail_on is None:
        return code
    if missing and not failing:
        raise InputError(f"--fail-on: {nothing_asserted(*missing[0])}")
    return FAILED_VERDICT if failing else DONE


def require_checkpoints(config: EvalConfig) -> None:
    """Raises InputError for a checkpoint that is not there, before torch is imported, which takes seconds."""
    for _, path in config.checkpoints:
        present(path)


def evaluated(
    config: EvalConfig, evaluate: Callable[[ProgressListener], Path], *, silent: bool
) -> tuple[Path | None, int]:
    """Evaluates with progress at the terminal, and states in one line why it stopped early.

    Args:
        evaluate: evaluates into a run folder and returns it.
        silent: hides progress.

    Returns:
        the run folder and the exit code; no folder where there is nothing to show for it.
    """
    require_checkpoints(config)
    if not silent:
        print(one_line(_what_will_run(config)), file=sys.stderr, flush=True)
    with importing():
        from robustbench_coded.evaluation.session.evaluate import IncompleteRun, RunStopped
        from robustbench_coded.evaluation.session.listener import ProgressListener

    listener = ProgressListener(Console(stderr=True), quiet=silent)

    def farewell() -> None:
        with suppress(Exception):  # whatever happens, the process ends now
            listener.close()
            if listener.path is not None:
                from robustbench_coded.reports.write import write_reports

                write_reports(listener.path)
        _say_how_to_go_on(config, listener.path)

    try:
        with stoppable(farewell) as heard, foreign_output():
            listener.when_stopping = heard
            return evaluate(listener), 0
    except IncompleteRun as incomplete:
        LOG.warning(f"{incomplete}; the same command tries them again")
        return incomplete.path, FAILED
    except RunStopped as stopped:
        message = f"csrobust: {stopped}; finished units are kept; the same command resumes the run"
        print(one_line(message), file=sys.stderr)
        return None, FAILED
    except KeyboardInterrupt:
        _say_how_to_go_on(config, listener.path)
        return None, INTERRUPTED
    finally:
        listener.close()


def _what_will_run(config: EvalConfig) -> str:
    names = [name for name, _ in config.checkpoints]
    behind = [*(["standard inference"] if config.standard else []), *config.defences]
    attacks = "default protocol" if config.checks else ", ".join(config.attack_names)
    what = f"{', '.join(names)}: {', '.join(behind)}" if names else ", ".join(behind)
    return f"Evaluating {what}; {attacks}; data: {config.data}"


def _say_how_to_go_on(config: EvalConfig, path: Path | None) -> None:
    command = shell([part for part in config.command if part != "--overwrite"])
    done = "before anything was computed" if path is None else f"{path} holds what is finished"
    LOG.warning(f"stopped, {done}; resume with: {command}")
