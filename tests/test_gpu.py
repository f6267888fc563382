"""On a machine with an accelerator, as `make gpu` runs them: the command line gives what it gives on the CPU,
but for rounding. Elsewhere they are skipped.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch

from attacks.accelerator import lacks
from robustbench_coded.cli.main import main
from robustbench_coded.judge.run import load_run

KIND = torch.accelerator.current_accelerator() if torch.accelerator.device_count() else None
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(KIND is None, reason="there is no accelerator"),
]
CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "digits-erm.safetensors"
ROUNDING = 0.1  # of 32 images or scored draws: a gradient's sign changes here and there


def evaluated(out, device, *more):
    """The run and its accuracies, by defence and attack."""
    options = "--data digits --rci N=1.5K --attacks fgsm,pgd-3 --eps 0.3 --limit 32 --batch-size 8 --draws 2"
    options += f" --selection-draws 2 --quiet --device {device}"
    assert main(["eval", "--ckpt", str(CHECKPOINT), *options.split(), "--out", str(out), *more]) == 0
    run = load_run(out)
    return run, run.summary.set_index(["defence", "attack"]).accuracy


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("cpu") / "run", "cpu")[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_device_gives_what_the_cpu_gives(precision, on_cpu, tmp_path):
    device = f"{KIND.type}:0"
    run, found = evaluated(tmp_path / "run", device, "--attack-precision", precision)
    assert run.manifest.last.resolved.device == device
    assert (found - on_cpu).abs().max() <= ROUNDING
    assert pd.read_csv(run.path / "timings.csv").peak_memory_bytes.min() > 0
    gradients = run.manifest.checkpoints[0].gradients
    assert gradients["prepared"] and gradients["precision"] == precision
    assert lacks(torch.device(device)) <= {"float64", "channels-last"}


def test_workers_share_all_devices(on_cpu, tmp_path):
    """One worker a device, and two on the only one where there are no more."""
    workers = ["--workers", "2"] if torch.accelerator.device_count() == 1 else []
    run, found = evaluated(tmp_path / "run", KIND.type, *workers)
    assert (found - on_cpu).abs().max() <= ROUNDING
    assert pd.read_csv(run.path / "timings.csv").peak_memory_bytes.min() > 0
