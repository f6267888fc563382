"""The command ``csrobust``: parses, calls one documented function, prints. Torch is imported when needed."""

import sys
import traceback
from pathlib import Path
from typing import Any

import typer

from robustbench_coded.errors import InputError, did_you_mean, where_raised
from robustbench_coded.installation import require_own_attacks
from robustbench_coded.reports.text.escape import one_line

# Some versions of typer bring their own copy of click: its base error is found through typer's.
ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
DEBUG = "--debug"
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code; the console script ends with it."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        sys.exit(code)
    return code


def run(arguments: list[str]) -> int:
    """0 done, 2 the user's input is wrong, 130 interrupted, 1 anything else.

    Errors are one line, unless ``--debug`` stands somewhere: then their tracebacks come first.
    """
    debug = DEBUG in arguments
    try:
        require_own_attacks()
    except ImportError as error:
        return _complain(str(error), FAILED)
    from robustbench_coded.cli import app

    command = typer.main.get_command(app.app)
    try:
        rest = [argument for argument in arguments if argument != DEBUG]
        code = command.main(rest, prog_name="csrobust", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if isinstance(error, InputError):
            return _complain(str(error), WRONG_INPUT)
        if isinstance(error, ClickException):
            return _complain(_misused(error), WRONG_INPUT)
        return _complain(_unexpected(error, debug), FAILED)


def _misused(error: Any) -> str:
    """What is wrong with the command line itself, and which name may have been meant."""
    said = " ".join(error.format_message().split())
    typed, context = getattr(error, "option_name", None), error.ctx
    if context is not None and said.startswith("Missing "):
        return f"{said.removesuffix('.')}; `{context.command_path} --help` says what it takes"
    if typed is None or context is None or not said.startswith("No such option"):
        return said
    flags = [flag for param in context.command.params for flag in (*param.opts, *param.secondary_opts)]
    near = did_you_mean(typed, [flag for flag in flags if flag.startswith("--")])
    return f"no such option {typed}; {near}`{context.command_path} --help` lists them"


def _unexpected(error: Exception, debug: bool) -> str:
    """An error that nobody foresaw, with its place: that of somebody's own code if it passed through any."""
    place = where_raised(error)
    if not place and (frames := traceback.extract_tb(error.__traceback__)):
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    more = "" if debug else f"; {DEBUG} prints the traceback"
    return f"{type(error).__name__}: {error}{place}{more}"


def _complain(message: str, code: int) -> int:
    print(one_line(f"csrobust: {message}"), file=sys.stderr)
    return code
