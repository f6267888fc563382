"""The engine that uses this machine, in this process."""

from collections.abc import Iterator, Sequence

import torch

from robustbench_coded.engine.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.execute import execute
from robustbench_coded.evaluation.plan import Unit
from robustbench_coded.evaluation.workbench import Setup, Workbench


def run_in_process(setup: Setup, units: Sequence[Unit], bench: Workbench | None = None) -> Iterator[UnitResult | UnitFailure]:
    """Runs units one after the other; each is tried twice before it counts as failed."""
    bench = bench or Workbench(setup)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        for unit in units:
            yield attempt(bench, unit)
    finally:
        torch.set_num_threads(before)


def attempt(bench: Workbench, unit: Unit) -> UnitResult | UnitFailure:
    """One unit, retried once: a second try helps against passing faults (memory, a busy device)."""
    attempts = 2
    for left in reversed(range(attempts)):
        try:
            return execute(bench, unit)
        except Exception as error:
            if left == 0:
                return UnitFailure(unit, f"{type(error).__name__}: {error}", attempts)
    raise AssertionError("unreachable")
