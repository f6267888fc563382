"""The command ``csrobust``: parses, calls one documented function, prints. Torch is imported when needed."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from robustbench_coded.cli.process import (
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    print_in_any_encoding,
    spin_briefly,
)
from robustbench_coded.errors import LOG, InputError, where_raised
from robustbench_coded.installation import require_own_attacks
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.threads import keep_memory

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
    rest = [argument for argument in arguments if argument != DEBUG]
    if rest[:1] == ["help"]:  # csrobust help eval
        rest = [*rest[1:], "--help"]

    def called() -> int:
        from robustbench_coded.cli.app import answer

        return answer(rest)

    return answered(called, debug=debug)


def answered(call: Callable[[], int], *, debug: bool = False) -> int:
    """The exit code of a call; what it raises in one line on standard error."""
    try:
        return call()
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if isinstance(error, InputError):  # candidates to choose from have lines of their own
            return _complain(str(error), WRONG_INPUT, lines=True)
        if (unusable := _unusable_path(error)) is not None:
            return _complain(unusable, WRONG_INPUT)
        return _complain(_unexpected(error, debug), FAILED)


class _OnStandardError(logging.Handler):
    """A line each, on what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(one_line(f"csrobust: {record.getMessage()}"), file=sys.stderr, flush=True)


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
