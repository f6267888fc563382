"""``python -m benchmarks.bench``."""

import sys

from benchmarks.bench.command import bench_command
from robustbench_coded.cli.app import run_command
from robustbench_coded.cli.main import answered
from robustbench_coded.cli.parser import command_of

if __name__ == "__main__":
    command = command_of("python -m benchmarks.bench", bench_command)
    sys.exit(answered(lambda: run_command(command, sys.argv[1:])))
