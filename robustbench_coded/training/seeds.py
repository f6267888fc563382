"""The same run with several seeds, for a mean and a deviation."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.listener import Listener
from robustbench_coded.training.loop import train
from robustbench_coded.training.save import Score, score_if_done


class SeededRun(NamedTuple):
    """One checkpoint and its score on the test images."""

    checkpoint: Path
    seed: int
    test: Score


class Repetitions(NamedTuple):
    """Runs that differ in their seed alone, and so in initialisation, train-validation split and order."""

    runs: tuple[SeededRun, ...]

    @property
    def mean(self) -> float:
        """Of the test accuracy, in [0, 1]."""
        return statistics.fmean(run.test.accuracy for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the test accuracy; None for a single run."""
        return statistics.stdev(run.test.accuracy for run in self.runs) if len(self.runs) > 1 else None


def seed_path(out: Path, seed: int) -> Path:
    """``FILE-seed0.safetensors`` and so on."""
    return out.with_name(f"{out.stem}-seed{seed}{out.suffix}")


def train_seeds(
    config: TrainConfig,
    out: Path,
    seeds: int,
    *,
    listeners: Callable[[Path], Sequence[Listener]] = lambda path: (),
) -> Repetitions:
    """Trains with the seeds ``config.seed``, ``config.seed`` + 1, ..., ``seeds`` of them.

    A checkpoint that is there and was made with these settings is not made again, so a killed series goes on.

    Args:
        config: the run with the first seed.
        out: the file that :func:`seed_path` names the checkpoints after.
        seeds: how many, at least 1.
        listeners: makes the listeners of one run from its checkpoint's path.
    Raises:
        InputError: as :func:`robustbench_coded.training.loop.train`, or a checkpoint made otherwise is there.
        ValueError: no seeds.
    """
    if seeds < 1:
        raise ValueError(f"expected seeds >= 1, got {seeds}")
    configs = [dataclasses.replace(config, seed=config.seed + i) for i in range(seeds)]
    # All of them are looked at first: a name that is taken is not to be found after the hours of the others.
    done = {seed_path(out, each.seed): score_if_done(seed_path(out, each.seed), each) for each in configs}
    runs = []
    for each, (path, score) in zip(configs, done.items()):
        score = score or train(each, path, listeners=listeners(path)).test
        runs.append(SeededRun(path, each.seed, score))
    return Repetitions(tuple(runs))
