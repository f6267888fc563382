"""Small trainings on 200 digits in a file, on one thread."""

import numpy as np
import pytest

from robustbench_coded.data.registry import load_data
from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.threads import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """200 digits in a file: enough to learn something, few enough for several runs."""
    data = load_data("digits", split="train").first(200)
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x=np.asarray(data.images[np.arange(200)]) * 15, y=data.labels)
    return f"npz:{path}"


def config(npz, **changes):
    settings = {
        "arch": "digits-cnn", "data": npz, "epochs": 3, "batch_size": 32, "validation": 0.0, "device": "cpu",
        "compile": False,
    }  # fmt: skip
    return TrainConfig(**{**settings, **changes})
