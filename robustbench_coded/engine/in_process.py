"""The engine that computes in this process."""

from collections.abc import Generator, Sequence

import torch

from robustbench_coded.engine.attempt import attempt
from robustbench_coded.engine.patience import Patience
from robustbench_coded.engine.results import UnitFailure, UnitResult
from robustbench_coded.engine.time_limit import TookTooLong, time_limit
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.planning.plan import Unit


def run_in_process(
    bench: Workbench, units: Sequence[Unit], patience: Patience
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Runs units one after the other.

    A unit that exceeds its time is not tried again: nothing would be different in the same process.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(bench.setup.threads)
    try:
        for unit in units:
            lost = patience.lost_with(unit)
            yield UnitFailure(unit, lost, 0) if lost else _within_its_time(bench, unit, patience)
    finally:
        torch.set_num_threads(before)


def _within_its_time(bench: Workbench, unit: Unit, patience: Patience) -> UnitResult | UnitFailure:
    try:
        with time_limit(patience.seconds(unit)):
            return attempt(bench, unit)
    except TookTooLong:
        return UnitFailure(unit, patience.exceeded(unit), 1)
