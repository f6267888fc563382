"""What is said to the user beside the answer: the logger ``csrobust``, and the command line's handler."""

import logging
import sys

from robustbench_coded.reports.text.escape import one_line

LOG = logging.getLogger("csrobust")


class _OnStandardError(logging.Handler):
    """A line each, on what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(one_line(f"csrobust: {record.getMessage()}"), file=sys.stderr, flush=True)


def show_log() -> None:
    """Shows it, unless the program that runs this has given the logger a handler."""
    if not LOG.handlers:
        LOG.addHandler(_OnStandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
