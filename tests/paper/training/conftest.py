"""Small trainings on one thread, and a listener that kills them."""

import pytest

from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.threads import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


def config(npz, **changes):
    settings = {
        "arch": "digits-cnn", "data": npz, "epochs": 3, "batch_size": 32, "validation": 0.0, "device": "cpu",
        "compile": False,
    }  # fmt: skip
    return TrainConfig(**{**settings, **changes})


class Interruption:
    """A bar that kills the run in the middle of an epoch, and counts."""

    def __init__(self, at=None):
        self.at, self.steps, self.rows = at, [], []

    def start(self, epochs, steps):
        self.started = (epochs, steps)

    def step(self, epoch, step):
        self.steps.append((epoch, step))
        if (epoch, step) == self.at:
            raise KeyboardInterrupt

    def done(self, epoch, figures):
        self.rows.append(epoch)
