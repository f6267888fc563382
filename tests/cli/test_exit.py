"""How the process of a command ends."""

import os
import subprocess
import sys

import pytest

BEFORE = """
import atexit, threading, time
atexit.register(print, "atexit")  # before anything else does: it is the last to run
from robustbench_coded.cli.main import main
threading.Thread(target=lambda: (time.sleep(1), print("thread"))).start()
print("first" * 20_000, end="")
main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["evla"], 2)])
def test_a_process_that_ends_at_once_loses_nothing(arguments, code):
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # else there is nothing to flush
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == code
    assert done.stdout.startswith("first" * 20_000)
    assert "thread\n" in done.stdout and done.stdout.endswith("atexit\n")  # in the interpreter's order
    assert ("No such command" in done.stderr) == (code == 2)


def test_a_reader_that_has_left_is_no_error():
    command = [sys.executable, "-c", "from robustbench_coded.cli.main import main; main()", "eval", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1)
