"""Where what plug-ins print goes: not between the lines of the command's own answer."""

import sys
from contextlib import AbstractContextManager, redirect_stdout


def foreign_output() -> AbstractContextManager[object]:
    """Within it, what a network, defence or attack of the user's prints goes to standard error."""
    return redirect_stdout(sys.stderr)
