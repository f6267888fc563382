"""Trainings in several worker processes at a time, each training in one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence

from robustbench_coded.engine.process_pool import ProcessPool
from robustbench_coded.engine.worker_pool import Died, EngineError, Finished, Ready, Told
from robustbench_coded.errors import InputError
from robustbench_coded.generation.config import GanConfig
from robustbench_coded.generation.tensorboard import Said
from robustbench_coded.generation.trainer import Orders, Refused, work


def side_by_side(
    runs: Sequence[GanConfig], orders: Orders, workers: int, said: Callable[[GanConfig], Said]
) -> Generator[GanConfig, None, None]:
    """Trains every configuration and yields it when it is done; they start in the order given.

    A training's course is the same as in one process. However this ends, the workers end with it, and what
    they have measured is kept.

    Args:
        said: makes what is told every iteration of one training.

    Raises:
        InputError: as `Trainer.train`.
        EngineError: a worker can't be started, or dies.
    """
    pool = ProcessPool(orders, [orders.device], work)
    waiting = deque(runs)
    busy: dict[int, tuple[GanConfig, Said]] = {}

    def assign(worker: int) -> None:
        if waiting:
            config = waiting.popleft()
            busy[worker] = config, said(config)
            pool.assign(worker, config)

    try:
        starting = {pool.start() for _ in range(min(workers, len(runs)))}
        while starting or busy:
            for event in pool.wait(None):
                worker = event.worker
                match event:
                    case Ready():
                        starting.remove(worker)
                        assign(worker)
                    case Told(content=content):
                        busy[worker][1](*content)
                    case Finished(outcome=Refused(reason)):
                        raise InputError(reason)
                    case Finished():
                        config, _ = busy.pop(worker)
                        assign(worker)
                        yield config
                    case Died(reason=reason):
                        what = busy[worker][0].name if worker in busy else "before its first training"
                        raise EngineError(f"a worker ended ({what}): {reason}")
    finally:
        pool.close()
