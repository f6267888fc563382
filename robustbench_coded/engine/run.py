"""Runs units with the engine that the options name."""

from collections.abc import Callable, Generator, Sequence

import torch

from robustbench_coded.engine.dispatch import dispatch
from robustbench_coded.engine.in_process import run_in_process
from robustbench_coded.engine.process_pool import ProcessPool
from robustbench_coded.engine.unit_time import UnitTimeLimits
from robustbench_coded.evaluation.execution.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import Unit


def run_units(
    context: WorkerContext, units: Sequence[Unit], limit: Callable[[Unit], float]
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Yields one outcome for each unit. With several workers only their order can differ.

    Args:
        context: of this process; its setup is what workers get.
        limit: seconds that a unit may take.

    Raises:
        InputError: the Ray cluster does not answer, or has no room for a worker.
        EngineError: workers can't be started.
    """
    config = context.setup.config
    time_limits = UnitTimeLimits(limit)
    workers = worker_count(config, context.device)
    if not units:
        return
    if workers > 1:  # the longest first, so that all workers finish at about the same time
        units = sorted(units, key=lambda unit: -unit.images)
    if config.engine == "ray":
        from robustbench_coded.engine.ray_actors import RayActors

        actors = RayActors(context, config.address, workers)
        if config.workers is None and config.address is not None:
            workers = actors.room
        yield from dispatch(actors, units, workers, time_limits)
    elif config.workers is None and workers == 1:
        yield from run_in_process(context, units, time_limits)
    else:
        yield from dispatch(ProcessPool(context.setup, _devices(context)), units, workers, time_limits)


def _devices(context: WorkerContext) -> list[str]:
    """The devices that the workers of this machine share."""
    if context.device.type == "cuda" and context.device.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(context.device)]
