"""What `make gpu` runs, on the device."""

import importlib

import pytest
import torch

from benchmarks.bench.run import BenchOptions, bench

pytestmark = pytest.mark.long


def test_table_3_runs_on_the_device(device, monkeypatch):
    pytest.importorskip("torchattacks")
    table3 = importlib.import_module("benchmarks.speed.table3_gpu")
    found = {}
    for where in ("cpu", device):
        setting = table3.Setting("digits-erm", "digits", 16, 0.3, torch.device(where), ("fgsm",), batch=8)
        found[where], _ = table3.measure(setting, ("TF32", "bfloat16"))
    for on_cpu, on_device in zip(found["cpu"], found[device], strict=True):
        rounding = (
            0.1 if on_cpu.precision == "bfloat16" else 0
        )  # which signs it changes depends on the groups
        assert on_device.accuracy == pytest.approx(on_cpu.accuracy, abs=rounding, rel=0)
        assert on_device.memory > 0


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
