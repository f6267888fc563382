"""The parts of `make gpu` that need no GPU: the rows of Table 3 in three precisions beside other packages."""

import pytest
import torch

from benchmarks.speed import table3_gpu as table3
from robustbench_coded.models import prepare

pytestmark = pytest.mark.long


def test_every_part_runs_on_a_cpu(monkeypatch):
    for package in table3.PACKAGES:
        pytest.importorskip(package)
    setting = table3.Setting(
        "digits-erm", "digits", 32, 0.3, torch.device("cpu"), ("fgsm", "apgd-ce-5"), batch=16
    )
    allowed = []
    real = table3.evaluate
    monkeypatch.setattr(
        table3, "evaluate", lambda *a, **o: allowed.append(prepare.TF32_ALLOWED) or real(*a, **o)
    )
    rows, missing = table3.measure(setting, ("TF32", "bfloat16"))
    assert missing == [] and allowed == [True, True, False, False] and prepare.TF32_ALLOWED is True
    assert [(row.method, row.precision, row.inference) for row in rows] == [
        ("csrobust", "TF32", "standard"),
        ("csrobust", "TF32", "RCI"),
        ("torchattacks", "TF32", "standard"),
        ("pyautoattack", "TF32", "standard"),
        ("csrobust", "bfloat16", "standard"),
        ("csrobust", "bfloat16", "RCI"),
    ]
    ours, rci, torchattacks, pyautoattack, *_ = rows
    # The same deterministic attack on the same images by two programs; the attacked are fewer than the clean.
    assert ours.accuracy["fgsm"] == torchattacks.accuracy["fgsm"] < ours.accuracy["clean"]
    assert ours.accuracy["clean"] == torchattacks.accuracy["clean"] == pyautoattack.accuracy["clean"]
    assert "apgd-ce-5" in pyautoattack.accuracy and "apgd-ce-5" not in torchattacks.accuracy
    assert rci.accuracy["fgsm"] > ours.accuracy["fgsm"] and all(row.seconds > 0 for row in rows)
    said = table3.report(rows, ["pyautoattack"], setting)
    assert said.count("\n| csrobust |") == 4 and "Not measured: pyautoattack is not installed." in said
    assert "Measured on cpu: float32 and TF32 are the same" in said


def test_tf32_can_be_switched_off_for_a_measurement(monkeypatch):
    with prepare.tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(prepare, "TF32_ALLOWED", False)
    with prepare.tf32(True):
        assert not torch.backends.cuda.matmul.allow_tf32
