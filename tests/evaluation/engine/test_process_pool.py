"""What a worker and its pool say to each other, for jobs of any kind."""

import multiprocessing
import pickle

import torch

from robustbench_coded.evaluation.engine import worker
from robustbench_coded.evaluation.engine.worker_pool import Finished, ProcessPool, Ready, Told, _Worker


class Alive:
    """A process that does not end."""

    def __init__(self):
        self.sentinel, self._other = multiprocessing.Pipe()


def test_a_job_is_told_of_while_it_runs_and_its_outcome_comes_last(monkeypatch):
    monkeypatch.setattr(worker.signal, "signal", lambda *args: None)
    ours, theirs = multiprocessing.Pipe()
    pool = ProcessPool(None, ["cpu"])
    pool._workers[7] = _Worker(Alive(), ours, "cpu")

    def run(job, tell):
        if job == "end":
            raise EOFError
        tell(job)
        tell((job, None))
        return [2 * job]

    pool.assign(7, 3)
    pool.assign(7, "end")
    worker.serve(theirs, ".", torch.get_num_threads(), lambda: run)
    events = [event for _ in range(4) for event in pool.wait(60)]
    assert events == [Ready(7), Told(7, 3), Told(7, (3, None)), Finished(7, [6])]
    theirs.send_bytes(pickle.dumps(0))
    assert pool.wait(60) == [Finished(7, 0)]
