"""How the process of a command ends."""

import subprocess
import sys


def test_a_reader_that_has_left_is_no_error():
    command = [sys.executable, "-c", "from robustbench_coded.cli.main import main; main()", "eval", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1)
