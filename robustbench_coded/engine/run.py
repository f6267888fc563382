"""Runs units with the engine that the options name."""

from collections.abc import Callable, Generator, Sequence

import torch

from robustbench_coded.engine.dispatch import dispatch
from robustbench_coded.engine.in_process import run_in_process
from robustbench_coded.engine.patience import Patience
from robustbench_coded.engine.processes import Processes
from robustbench_coded.engine.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.plan import Unit


def run_units(
    bench: Workbench, units: Sequence[Unit], limit: Callable[[Unit], float]
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Yields one outcome for each unit. With several workers the order is theirs; the outcomes are the same.

    Args:
        bench: of this process; its setup is what workers get.
        limit: seconds that a unit may take.

    Raises:
        InputError: the Ray cluster that was named is not there, or has no room.
        EngineError: workers can't be started.
    """
    config = bench.setup.config
    patience = Patience(limit)
    workers = worker_count(config, bench.device)
    if not units:
        return
    if workers > 1:  # the longest first: at the end no worker waits for another that has just begun one
        units = sorted(units, key=lambda unit: -unit.images)
    if config.engine == "ray":
        from robustbench_coded.engine.ray_actors import RayActors

        actors = RayActors(bench, config.address, workers)
        if config.workers is None and config.address is not None:
            workers = actors.room
        yield from dispatch(actors, units, workers, patience)
    elif config.workers is None and workers == 1:
        yield from run_in_process(bench, units, patience)
    else:
        yield from dispatch(Processes(bench.setup, _devices(bench)), units, workers, patience)


def _devices(bench: Workbench) -> list[str]:
    """The devices that workers of this machine share out among themselves."""
    if bench.device.type == "cuda" and bench.device.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(bench.device)]
