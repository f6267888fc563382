"""The imitation of an accelerator for a test, and small evaluations on it and on the CPU."""

from pathlib import Path

import imitation_accelerator as imitation
import pandas as pd
import pytest
import torch
from imitation_accelerator import State

from attacks.accelerator import lacks
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import evaluate

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "checkpoints" / "digits-erm.safetensors"


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The first of two devices, present in this test alone."""
    imitation.register()
    for name, value in (
        ("present", True),
        ("limit_bytes", None),
        ("last", 0),
        ("ran_out", 0),
        ("float64", True),
        ("channels_last", True),
    ):
        monkeypatch.setattr(State, name, value)
    State.waits.clear()
    lacks.cache_clear()
    yield "imitation:0"
    lacks.cache_clear()


def evaluated(device, folder, listener=None, **options):
    """The run folder of a small evaluation, and what it says of each row."""
    given = {
        "checkpoints": (("erm", str(CHECKPOINT)),),
        "data": "digits",
        "defence": ("rci:N=1.5K",),
        "attacks": ("fgsm", "pgd-3", "aware-pgd-2"),
        "eps": (0.3,),
        "limit": 16,
        "batch_size": (8,),
        "draws": 2,
        "selection_draws": 2,
        "threads": 1,
    }
    out = folder / device.replace(":", "-")
    path = evaluate(EvalConfig(**{**given, **options}, device=device, out=out), listener)
    return path, pd.read_csv(path / "summary.csv")


def same_on_both(device, tmp_path, **options):
    """Whether the CPU and the device say the same; returns the device's folder."""
    _, on_cpu = evaluated("cpu", tmp_path, **options)
    path, on_device = evaluated(device, tmp_path, **options)
    pd.testing.assert_frame_equal(on_cpu, on_device)
    assert State.peak[0] > 0 and State.waits  # it did run there
    return path


def tiny():
    """A network of digits, 16 images and the labels that it gives them."""
    x, _ = load_digits("test").batch(range(16))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval().requires_grad_(False)
    return network, x, network(x).argmax(1)
