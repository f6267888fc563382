"""The script that starts worker processes: Python imports it anew in each of them."""

import ast
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from robustbench_coded.errors import InputError


def check_main_module(sent: bytes) -> None:
    """Refuses a script that every worker would run again, and classes that no worker would find.

    Args:
        sent: the pickle of what workers get.

    Raises:
        InputError: an evaluation outside ``if __name__ == "__main__"``, or a class of a notebook is sent.
    """
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None:
        if b"__main__" in sent:
            raise InputError(
                "other processes can't import what is defined in a notebook or typed at a prompt; put the "
                "classes and functions into a .py file and import them, or leave workers out"
            )
        return
    if spec is not None and spec.name.split(".")[-1] == "__main__":  # of a package: not imported again
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        here, line = frame.f_globals is vars(main) and frame.f_code.co_name == "<module>", frame.f_lineno
        if here and not _guarded(Path(file), line):
            raise InputError(
                f"workers import {Path(file).name} anew, which would run it again: put its line {line} "
                'under `if __name__ == "__main__":`, or leave workers out'
            )
        frame = frame.f_back


def _guarded(file: Path, line: int) -> bool:
    """True if the line stands under a condition on ``__name__``, or its file can't be read."""
    with suppress(OSError, ValueError, SyntaxError):
        for statement in ast.parse(file.read_bytes()).body:
            if statement.lineno <= line <= (statement.end_lineno or 0):
                return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
    return True
