"""The command ``csrobust``: parses, calls one documented function, prints. Torch is imported when needed."""

import errno
import functools
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import typer

from robustbench_coded.cli.process import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    print_in_any_encoding,
    spin_briefly,
)
from robustbench_coded.deleted import answer_to
from robustbench_coded.errors import LOG, InputError, did_you_mean, where_raised
from robustbench_coded.installation import require_own_attacks
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.threads import keep_memory

# Some versions of typer bring their own copy of click: its base error is found through typer's.
ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
DEBUG = "--debug"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code; the console script ends with it."""
    if arguments is not None:
        return run(arguments)
    spin_briefly()
    keep_memory()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has left: Python would complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def run(arguments: list[str]) -> int:
    """0 done, 2 the user's input is wrong, 3 a verdict of --fail-on, 130 interrupted, 1 anything else.

    Errors are one line, unless ``--debug`` stands somewhere: then their tracebacks come first.
    """
    debug = DEBUG in arguments
    print_in_any_encoding()
    if not LOG.handlers:  # the program that runs this may have given it one
        LOG.addHandler(_OnStandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
    try:
        require_own_attacks()
    except ImportError as error:
        return _complain(str(error), FAILED)
    command = _command()
    rest = [argument for argument in arguments if argument != DEBUG]
    if rest[:1] == ["help"]:  # csrobust help eval
        rest = [*rest[1:], "--help"]
    try:
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
        if isinstance(error, InputError):  # candidates to choose from have lines of their own
            return _complain(str(error), WRONG_INPUT, lines=True)
        if isinstance(error, ClickException):
            return _complain(_misused(error, rest), WRONG_INPUT)
        if (unusable := _unusable_path(error)) is not None:
            return _complain(unusable, WRONG_INPUT)
        return _complain(_unexpected(error, debug), FAILED)


class _OnStandardError(logging.Handler):
    """A line each, on what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(one_line(f"csrobust: {record.getMessage()}"), file=sys.stderr, flush=True)


@functools.cache
def _command() -> Any:
    """The command line with its subcommands, which typer reads from the signatures of all functions."""
    from robustbench_coded.cli import app

    return typer.main.get_command(app.app)


# The words of typer and its click for a value of another type than the option's.
TYPES = {
    "valid integer": "a whole number",
    "valid int": "a whole number",
    "valid number": "a number",
    "valid float": "a number",
}


def _misused(error: Any, arguments: list[str]) -> str:
    """What is wrong with the command line itself, and which name may have been meant."""
    message = " ".join(error.format_message().split())
    typed, context, param = getattr(error, "option_name", None), error.ctx, getattr(error, "param", None)
    wanted = next((wanted for words, wanted in TYPES.items() if words in message), None)
    if wanted is not None and param is not None:
        return f"{_as_typed(error, arguments)} is not {wanted}"
    if typed is not None and "requires an argument" in message:
        return f"{typed} needs a value"
    if context is not None and message.startswith("Missing "):
        return f"{message.removesuffix('.')}; `{context.command_path} --help` says what it takes"
    if typed is None or context is None or not message.startswith("No such option"):
        return message
    if (answer := answer_to(typed)) is not None:
        return answer
    flags = [flag for param in context.command.params for flag in (*param.opts, *param.secondary_opts)]
    near = did_you_mean(typed, [flag for flag in flags if flag.startswith("--")])
    return f"no such option {typed}; {near}`{context.command_path} --help` lists them"


def _as_typed(error: Any, arguments: list[str]) -> str:
    """An option with the value that it was given: ``--limit '5.5'``; of a run.toml, behind its name."""
    flags, file = error.param.opts, error.ctx and error.ctx.params.get("config")
    for place, argument in reversed(list(enumerate(arguments))):  # the last one counts
        flag, given, value = argument.partition("=")
        if flag in flags:
            return f"{flag} {value if given else ' '.join(arguments[place + 1 : place + 2])!r}"
    written = (error.ctx.default_map or {}).get(error.param.name) if file else None
    return " ".join(flags) if written is None else f"{file}: {' '.join(flags)} {written!r}"


# A path that the user should change; a full or a failing disk is none.
_PATH_ERRORS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_OTHER_PATH_ERRORS = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}


def _unusable_path(error: Exception) -> str | None:
    """What is wrong with a file or folder that the system refused; None for any other error."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    if not isinstance(error, _PATH_ERRORS) and error.errno not in _OTHER_PATH_ERRORS:
        return None
    place = where_raised(error)
    return f"{error.filename} can't be read or written ({error.strerror}){place}; name another path"


def _unexpected(error: Exception, debug: bool) -> str:
    """An unexpected error, with its place: that in user code if it passed through any."""
    place = where_raised(error)
    if not place and (frames := traceback.extract_tb(error.__traceback__)):
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    more = "" if debug else f"; {DEBUG} prints the traceback"
    return f"{type(error).__name__}: {error}{place}{more}"


def _complain(message: str, code: int, *, lines: bool = False) -> int:
    text = f"csrobust: {message}"
    for line in text.split("\n") if lines else [text]:
        print(one_line(line), file=sys.stderr)
    return code
