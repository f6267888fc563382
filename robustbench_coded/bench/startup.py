"""How long the command line takes to answer, in a fresh process."""

import subprocess
import sys
from collections.abc import Callable

import torch

from robustbench_coded.bench.timing import Contender, Timing, interleaved

COMMANDS = ("--help", "list attacks", "list models")


def startup(rounds: int) -> list[Timing]:
    """Wall time of commands that load neither models nor data; the first round is not counted."""
    contenders = [Contender(f"csrobust {text}", 1, _process(text)) for text in COMMANDS]
    return interleaved(contenders, rounds, torch.device("cpu"))


def _process(arguments: str) -> Callable[[], object]:
    code = "from robustbench_coded.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments.split()]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
