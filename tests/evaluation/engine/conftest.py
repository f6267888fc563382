"""Small evaluations of an embedded checkpoint, and a defence that can be told to misbehave."""

from pathlib import Path

import numpy as np
import pytest

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.evaluation.options.config import EvalConfig

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "digits-erm.safetensors"

FAULTY = '''
import os, signal, time
from multiprocessing import parent_process
from pathlib import Path

import torch


class Faulty:
    """Standard inference, until the file `fault` in the current folder says otherwise."""

    name = "faulty"
    randomised = batch_dependent = False

    def __init__(self, model):
        self.base = model

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        fault = Path("fault").read_text() if Path("fault").exists() else ""
        logits = self.base(x)
        match fault:
            case "nan":
                return logits * float("nan")
            case "shape":
                return logits[:, None]
            case "raise":
                raise ValueError("I would rather not\\nreally")
            case "exit":
                raise SystemExit(3)
            case "hang":
                time.sleep(1000)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once":
                Path("fault").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            case "stall once":
                Path("fault").unlink()
                raise OSError("Stale file handle")
            case "memory":
                if len(x) > 16:
                    raise torch.OutOfMemoryError(f"{len(x)} images are too many")
        return logits


def build(model):
    return Faulty(model)
'''


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Name of a defence in the current folder that follows the file ``fault`` there."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.chdir(tmp_path)
    yield "faulty:build"
    import sys

    sys.modules.pop("faulty", None)


def digits_in(folder, count):
    """A file of some digits: a worker reads it faster than it imports scikit-learn."""
    data = load_digits("test")
    pixels = np.rint(data.images[np.arange(count)] / data.scale * 255).astype(np.uint8)
    np.savez(folder / "digits.npz", x=pixels, y=data.labels[:count])
    return folder / "digits.npz"


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory):
    return digits_in(tmp_path_factory.mktemp("data"), 64)


@pytest.fixture(scope="session")
def config(digits_file):
    """Makes configurations of a small evaluation on digits."""

    def make(**options):
        given = {
            "checkpoints": (("erm", str(CHECKPOINT)),),
            "defence": ("rci:N=1.5K",),
            "attacks": ("fgsm", "pgd-3", "aware-pgd-2"),
            "data": f"npz:{digits_file}",
            "eps": (0.3,),
            "limit": 24,
            "batch_size": (8,),
            "draws": 2,
            "selection_draws": 2,
            "threads": 1,
        }
        return EvalConfig(**{**given, **options})

    return make
