"""What `make gpu-check` runs, on the device."""

import pytest

from benchmarks.bench.run import BenchOptions, bench
from benchmarks.speed import gpu_check

pytestmark = pytest.mark.long


def test_both_devices_give_the_same_verdicts(device, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "FOLDER", tmp_path)
    quick = {"attacks": ["fgsm", "transfer-pgd-3"], "limit": 64, "batch_size": 16, "draws": 2, "threads": 1}
    rows = list(gpu_check.beside("digits-erm", "digits", device, **quick))
    verdicts = [row for row in rows if row[1].startswith("verdict")]
    # Of standard inference beside a defence there is none but a positive one.
    ((*_, on_cpu, there),) = verdicts
    assert on_cpu == there
    assert float(gpu_check.waits(device).rpartition(" ")[2]) < 4  # a network alone: who is fooled is asked


def test_attacks_are_timed_in_each_precision_on_the_device(device):
    """As benchmarks/speed/speed.py times them."""
    report = bench(
        BenchOptions(arch="digits-cnn", images=8, steps=2, rounds=1, gradients_only=True, device=device)
    )
    assert report.machine["device"] == device and report.notes == []
    assert set(report.preparation) == {"float32", "bfloat16"}
    (section,) = report.sections
    assert {"csrobust pgd-2, float32", "csrobust pgd-2, bfloat16"} <= set(section.memory)
    assert all(section.memory.values())
