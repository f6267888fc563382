"""Starts command lines at once: a process that has imported everything forks one for each.

Reads JSON lines {"arguments", "folder", "output", "killed_at"} and answers with the child's process id, then,
when the child ends, with its exit code (negative: the signal that killed it).
"""

import json
import os
import signal
import sys

from robustbench_coded.cli.main import run
from robustbench_coded.evaluation.session import evaluate
from robustbench_coded.reports import write
from robustbench_coded.reports.render import terminal

IMPORTED = (evaluate, terminal)
write.figures_of = lambda *_: []  # they take longer than all else, and are tested elsewhere
if "unsynced" in sys.argv[1:]:  # a kill loses nothing that the system was given, and the disk takes its time
    os.fsync = lambda descriptor: None


def kill_at(moment: int) -> None:
    """Ends this process by kill -9 where it syncs for the given time: before a file or behind a line."""
    left = iter(range(moment - 1))
    os.fsync = lambda descriptor: next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL)


def child(order: dict) -> None:
    os.setsid()
    if order["killed_at"]:
        kill_at(order["killed_at"])
    os.chdir(order["folder"])
    out = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["csrobust", *order["arguments"]]
    code = run(order["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
