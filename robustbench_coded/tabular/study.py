"""All settings on all tables over seeds, compared with ERM seed by seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.statistics.clustered import clopper_pearson
from robustbench_coded.statistics.holm import holm
from robustbench_coded.tabular.data import SETS, TEST_SHARE, split_of
from robustbench_coded.tabular.train import BASELINE, SETTINGS, STEPS, trained

TAIL = 0.025
RUNS = "runs.csv"


class Run(NamedTuple):
    """One network."""

    table: str
    setting: str
    seed: int
    steps: int
    accuracy: float
    loss: float


class Comparison(NamedTuple):
    """A setting less ERM on one table, over seeds: in accuracy, a fraction, and in loss, nats.

    Attributes:
        accuracy, loss: means of the setting itself.
        gain, low, high: of accuracy, at the usual level.
        settled: whether the gain's interval leaves out 0 after Holm's correction for all comparisons.
        loss_gain, loss_low, loss_high: of the loss.
    """

    table: str
    setting: str
    seeds: int
    accuracy: float
    loss: float
    gain: float
    low: float
    high: float
    settled: bool
    loss_gain: float
    loss_low: float
    loss_high: float


def run_all(
    folder: Path,
    tables: Sequence[str],
    *,
    seeds: int,
    steps: int = STEPS,
    said: Callable[[str], None] = lambda text: None,
) -> list[Run]:
    """Trains what ``runs.csv`` of the folder does not hold yet; returns all runs asked for.

    Raises:
        InputError: an unknown table, or a file that is no list of runs.
    """
    if seeds < 2:
        raise InputError(f"--seeds {seeds}: an interval needs 2 or more")
    done = {run[:4]: run for run in read_runs(folder / RUNS)}
    wanted = []
    for table in tables:
        for seed in range(seeds):
            split = split_of(table, seed)
            for setting in SETTINGS:
                key = (table, setting.name, seed, steps)
                if key not in done:
                    done[key] = Run(*key, *trained(setting, split, seed, steps=steps))
                wanted.append(done[key])
            write_runs(folder / RUNS, list(done.values()))
        said(f"{table}: {seeds} seeds, {len(SETTINGS)} settings")
    return wanted


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Every setting on every table beside ERM, and ERM itself with no gain."""
    by_key = {(run.table, run.setting, run.seed): run for run in runs}
    tables = list(dict.fromkeys(run.table for run in runs))
    settings = list(dict.fromkeys(run.setting for run in runs))
    seeds = sorted({run.seed for run in runs})
    gains, losses = {}, {}
    for table in tables:
        for setting in settings:
            pairs = [(by_key[table, setting, seed], by_key[table, BASELINE, seed]) for seed in seeds]
            gains[table, setting] = np.array([one.accuracy - base.accuracy for one, base in pairs])
            losses[table, setting] = np.array([one.loss - base.loss for one, base in pairs])

    def of_gain(table: str, setting: str, tail: float) -> tuple[float, float]:
        low, high = _ends(gains[table, setting], tail)
        # However alike two trainings are, they may differ where 0 of the table's rows showed it.
        reach = max((high - low) / 2, clopper_pearson(0, SETS[table], tail)[1])
        middle = (low + high) / 2
        return middle - reach, middle + reach

    asked = [key for key in gains if key[1] != BASELINE]
    answers = holm([partial(of_gain, *key) for key in asked], lambda ends: ends[0] > 0 or ends[1] < 0, TAIL)
    settled = {key: answer.settled for key, answer in zip(asked, answers, strict=True)}
    return [
        Comparison(
            table, setting, len(seeds),
            float(np.mean([by_key[table, setting, seed].accuracy for seed in seeds])),
            float(np.mean([by_key[table, setting, seed].loss for seed in seeds])),
            float(gains[table, setting].mean()), *of_gain(table, setting, TAIL),
            settled.get((table, setting), False),
            float(losses[table, setting].mean()), *_ends(losses[table, setting], TAIL),
        )
        for table, setting in gains
    ]  # fmt: skip


def _ends(values: np.ndarray, tail: float) -> tuple[float, float]:
    """Student's interval of a mean over random splits of one table.

    The training sets of two splits overlap, so their results are alike. The variance is corrected for that
    (Nadeau and Bengio, Machine Learning 52, 2003): 1/J + n_test/n_train in place of 1/J.
    """
    share = 1 / len(values) + TEST_SHARE / (1 - TEST_SHARE)
    reach = float(stdtrit(len(values) - 1, 1 - tail) * values.std(ddof=1) * np.sqrt(share))
    return float(values.mean()) - reach, float(values.mean()) + reach


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """The file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Run._fields)
    writer.writerows(runs)
    write_text(path, text.getvalue())


def read_runs(path: Path) -> list[Run]:
    """Runs of a file; none where it is not there.

    Raises:
        InputError: it is another file.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        if tuple(head) != Run._fields:
            raise ValueError("other columns")
        return [
            Run(table, setting, int(seed), int(steps), float(accuracy), float(loss))
            for table, setting, seed, steps, accuracy, loss in lines
        ]
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: no list of runs ({error}); give another --out") from error
