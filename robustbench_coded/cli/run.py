"""Running an evaluation for somebody at a terminal: progress while it runs, the table at its end."""

import json
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from robustbench_coded.cli.stopping import INTERRUPTED, stoppable
from robustbench_coded.engine.server import start_server
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.reports.text.escape import one_line, shell

FAILED = 1


def run_evaluation(config: EvalConfig, *, quiet: bool, as_json: bool) -> int:
    """Evaluates and prints; the exit code says whether every unit has outcomes."""
    if config.workers and config.engine == "local":
        start_server()  # torch is imported there and here at the same time
    from robustbench_coded.cli.progress import ProgressListener
    from robustbench_coded.evaluation.session.evaluate import IncompleteRun, RunStopped, evaluate
    from robustbench_coded.reports.render.terminal import summary_table
    from robustbench_coded.reports.write import write_reports
    from robustbench_coded.results.run import load_run

    listener = ProgressListener(Console(stderr=True), quiet=quiet or as_json)

    def farewell() -> None:
        listener.close()
        with suppress(Exception):  # whatever happens, the process ends now
            if listener.path is not None:
                write_reports(listener.path)
        _say_how_to_go_on(config, listener.path)

    code = 0
    try:
        with stoppable(farewell) as stop:
            listener.when_stopping = stop.heard
            path = evaluate(config, listener)
    except IncompleteRun as incomplete:
        path, code = incomplete.path, FAILED
        print(one_line(f"csrobust: {incomplete}; the same command tries them again"), file=sys.stderr)
    except RunStopped as stopped:
        said = f"csrobust: {stopped}; finished units are kept, the same command goes on"
        print(one_line(said), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        _say_how_to_go_on(config, listener.path)
        return INTERRUPTED
    finally:
        listener.close()
    run = load_run(path)
    if as_json:
        print(json.dumps(run.as_data()))
    else:
        Console().print(summary_table(run))
        print(one_line(f"report: {Path(path) / 'report.md'}"))
    return code


def _say_how_to_go_on(config: EvalConfig, path: Path | None) -> None:
    command = shell([part for part in config.command if part != "--overwrite"])
    done = "before anything was computed" if path is None else f"{path} holds what is finished"
    print(one_line(f"csrobust: stopped, {done}; go on with: {command}"), file=sys.stderr)
