"""Progress and warnings below the command line: the logger ``csrobust``, and the handler that shows it."""

import logging
import sys

LOG = logging.getLogger("csrobust")


class _OnStandardError(logging.Handler):
    """A line each, on what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"csrobust: {record.getMessage()}", file=sys.stderr, flush=True)


def show_log() -> None:
    """Shows progress and warnings, unless the program that runs this has given the logger a handler."""
    if not LOG.handlers:
        LOG.addHandler(_OnStandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
