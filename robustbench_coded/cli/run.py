"""Running an evaluation for somebody at a terminal: progress while it runs, the table at its end."""

import json
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from robustbench_coded.evaluation.config import EvalConfig

FAILED = 1
INTERRUPTED = 130


def run_evaluation(config: EvalConfig, *, quiet: bool, as_json: bool) -> int:
    """Evaluates and prints; the exit code says whether every unit has outcomes."""
    from robustbench_coded.cli.progress import ProgressListener
    from robustbench_coded.evaluation.evaluate import IncompleteRun, evaluate
    from robustbench_coded.reports.load import load_run
    from robustbench_coded.reports.terminal import summary_table

    signal.signal(signal.SIGTERM, _interrupt)
    listener = ProgressListener(Console(stderr=True), quiet=quiet or as_json)
    code = 0
    try:
        path = evaluate(config, listener)
    except IncompleteRun as incomplete:
        path, code = incomplete.path, FAILED
        print(f"csrobust: {incomplete}; the same command tries them again", file=sys.stderr)
    except KeyboardInterrupt:
        print("csrobust: stopped; finished units are kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    finally:
        listener.close()
    run = load_run(path)
    if as_json:
        print(json.dumps(run.as_data()))
    else:
        Console().print(summary_table(run))
        print(f"report: {Path(path) / 'report.md'}")
    return code


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
