"""The one exception that means 'the user's input is wrong', what a mistyped name may have meant,
messages in Python's words, and the logger for messages beside the results.
"""

import logging
import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

_OURS = tuple(str(Path(__file__).resolve().parents[1] / name) for name in ("robustbench_coded", "attacks"))
_LIBRARIES = tuple(sysconfig.get_path(name) + "/" for name in ("stdlib", "purelib", "platlib"))
LOG = logging.getLogger("csrobust")  # `cli.main` shows it


class InputError(ValueError):
    """Wrong input from the user: one line that says what, where and how to mend it, and lines to choose from.

    The command line prints the message on standard error and exits with code 2; any other exception is
    a fault of the program or of the machine and exits with code 1.
    """

    def __init__(self, message: str, choices: Sequence[str] = ()):
        # A hostile file name or key may hold newlines or escape codes; every line must stay one.
        super().__init__("\n".join(map(_printable, (message, *choices))))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean pgd-10? `` for the known name closest to what was typed; empty where none is close."""
    # The dashes that all flags share make none of them closer.
    lower = {each.lower().lstrip("-"): each for each in known}
    near = get_close_matches(name.lower().lstrip("-"), lower, n=1)
    return f"did you mean {lower[near[0]]}? " if near else ""


def where_raised(error: BaseException | None) -> str:
    """`` (my_defence.py, line 12)``: the innermost line outside this project and the libraries, if any."""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((*_OURS, *_LIBRARIES, "<"))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def described(error: BaseException) -> str:
    """The exception of user code and its place: ``ValueError: no such layer (my_defence.py, line 12)``."""
    return f"{type(error).__name__}: {error}{where_raised(error)}"


# Options of the command line that `evaluate` calls otherwise.
_NAMES = {"ckpt": "models", "defence": "defences", "rci": "defences"}
_SWITCHES = ("overwrite", "all", "first", "save_adversarials")


def in_python(message: str) -> str:
    """A message of the command line for who called from Python: ``--overwrite`` is ``overwrite=True``."""

    def argument(flag: re.Match[str]) -> str:
        if flag["name"] is None:  # a command, for the shell
            return flag[0]
        name = flag["name"].replace("-", "_")
        if flag["no"]:
            return f"{name}=False"
        return f"{name}=True" if name in _SWITCHES else _NAMES.get(name, name)

    command = r"csrobust eval --ckpt [^`;]*"
    return re.sub(rf"{command}|(?<![\w-])--(?P<no>no-)?(?P<name>[a-z][a-z-]*[a-z])", argument, message)
