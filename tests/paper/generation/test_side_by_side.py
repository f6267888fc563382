"""Trainings in worker processes. The processes themselves are tested with the engine's."""

from pathlib import Path

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine.worker_pool import Died, EngineError, Finished, Ready, Told
from robustbench_coded.paper.generation import study as studies
from robustbench_coded.paper.generation.config import GanConfig, GeneratorPoint
from robustbench_coded.paper.generation.study import RefusedStudy
from robustbench_coded.paper.generation.train import POINTS
from robustbench_coded.paper.studies.over_seeds import Records

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "digits-erm.safetensors"
CONFIGS = [GanConfig("digits", n, batch_size=8, iterations=2, every=1, samples=100) for n in (None, 12)]
RUNS = [config.seeded(seed) for seed in range(2) for config in CONFIGS]


class Pool:
    """Workers in this process: what ``answers`` says of a job happens in turn, one event at a time."""

    def __init__(self, answers):
        self.answers, self.events, self.workers, self.closed = answers, [], 0, False

    def __call__(self, orders, devices, work):
        self.work, self.orders = work, orders
        return self

    def start(self):
        self.workers += 1
        self.events.append(Ready(self.workers))
        return self.workers

    def assign(self, worker, job):
        self.events += self.answers(self, worker, job)

    def wait(self, seconds):
        return [self.events.pop(0)]

    def close(self):
        self.closed = True


class Orders:
    device = "cpu"


def trained(pool, monkeypatch, workers=3):
    """The names in the order in which they are done, and what was said of each."""
    told = {}
    monkeypatch.setattr(studies, "ProcessPool", pool)
    said = studies.side_by_side(
        RUNS, Orders(), workers, lambda config: lambda *what: told.setdefault(config.name, []).append(what)
    )
    return [config.name for config in said], told


def well(pool, worker, job):
    return [Told(worker, (1, None)), Told(worker, (2, job.seed)), Finished(worker, job.name)]


def test_every_training_is_done_once_and_told_of(monkeypatch):
    pool = Pool(well)
    done, told = trained(pool, monkeypatch)
    assert done == [config.name for config in RUNS] and pool.closed and pool.workers == 3
    assert told == {config.name: [(1, None), (2, config.seed)] for config in RUNS}


@pytest.mark.parametrize(
    ("last", "error", "said"),
    [
        (lambda worker: Finished(worker, RefusedStudy("other options")), InputError, "other options"),
        (lambda worker: Died(worker, "signal 9"), EngineError, r"\(coded-n12-seed0\): signal 9"),
    ],
)
def test_what_stops_a_training_stops_all_of_them(monkeypatch, last, error, said):
    def answers(pool, worker, job):
        return [last(worker)] if job.n else well(pool, worker, job)

    pool = Pool(answers)
    with pytest.raises(error, match=said):
        trained(pool, monkeypatch)
    assert pool.closed


def test_a_worker_trains_as_this_process_does(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "write_gan_report", lambda folder: None)  # most of the time
    loops = []
    monkeypatch.setattr(studies, "serve", lambda pipe, folder, threads, prepared: loops.append(prepared()))

    def answers(pool, worker, job):
        if not loops:
            pool.work(None, pool.orders, ".")
        told = []
        outcome = loops[0](job, told.append)
        return [*(Told(worker, content) for content in told), Finished(worker, outcome)]

    monkeypatch.setattr(studies, "ProcessPool", Pool(answers))
    one, two = tmp_path / "one", tmp_path / "two"
    studies.study(CONFIGS, str(CHECKPOINT), one, seeds=1, quiet=True)
    (two / "plain-seed0").mkdir(parents=True)
    (two / "plain-seed0" / ".history.csv.1-2.part").write_text("half")  # of a worker that was killed
    studies.study(CONFIGS, str(CHECKPOINT), two, seeds=1, workers=2, quiet=True)
    for name in ("plain-seed0", "coded-n12-seed0"):
        for file in ("samples.npy", "samples.png"):
            assert (two / name / file).read_bytes() == (one / name / file).read_bytes()
        first, second = (Records(folder / name / POINTS, GeneratorPoint).rows for folder in (one, two))
        assert [point[:-2] for point in first] == [point[:-2] for point in second] and len(first) == 2
    assert not list(two.rglob("*.part"))
    with pytest.raises(InputError, match="other options"):
        studies.study(
            [GanConfig("digits", None, mu=0.25)], str(CHECKPOINT), two, seeds=1, workers=2, quiet=True
        )
