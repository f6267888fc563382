"""Training on two processes, as torchrun starts them."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from robustbench_coded.data.registry import load_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.paper.training.loop import train

pytestmark = pytest.mark.long

# No batch-norm: then two halves of a batch, averaged, are the whole batch.
SETTINGS = {
    "arch": "vit-4-12-1-2", "epochs": 2, "batch_size": 40, "validation": 0.1, "device": "cpu",
    "learning_rate": 0.05,
}  # fmt: skip
OPTIONS = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_train_as_one_does(tmp_path):
    data = load_data("digits", split="train").first(160)
    np.savez(tmp_path / "few.npz", x=np.asarray(data.images[np.arange(160)]) * 15, y=data.labels)
    spec = f"npz:{tmp_path}/few.npz"
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group = {**os.environ, **address, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from robustbench_coded.cli.main import main; raise SystemExit(main())"]
    command += ["train", "--recipe", "erm", "--data", spec, "--out", str(tmp_path / "two.safetensors")]
    command += OPTIONS
    processes = [
        subprocess.Popen(
            command, env={**group, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    train(TrainConfig(data=spec, **SETTINGS), tmp_path / "one.safetensors")
    (said, echoed) = (process.communicate(timeout=1200)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert said.count("two.safetensors: ") == 1 and not echoed
    one, two = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, weight in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], weight, rtol=1e-3, atol=1e-5)
    assert one.metadata["accuracy"] == two.metadata["accuracy"]
