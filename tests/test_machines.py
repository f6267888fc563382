"""The Dockerfile and `make gpu`: what they run exists; a machine without a GPU is told what is missing."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def dry(target):
    return subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def gpu_missing():
    spec = importlib.util.spec_from_file_location("gpu_missing", ROOT / "benchmarks" / "speed/gpu_missing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_container_runs_targets_that_exist():
    text = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"RUN make (\w+)", text) + re.findall(r'"make", "(\w+)"', text)
    assert targets == ["install", "eval"]
    assert "csrobust eval" in dry(targets[-1])


def test_the_container_has_what_the_job_reads():
    left_out = (ROOT / ".dockerignore").read_text().split()
    needed = {"attacks", "robustbench_coded", "checkpoints", "pyproject.toml", "constraints.txt"}
    needed |= {"Makefile", "README.md"}
    assert needed.isdisjoint(left_out)
    assert all((ROOT / name).exists() for name in needed)


def test_make_gpu_checks_the_machine_before_it_runs_anything():
    lines = [line for line in dry("gpu").splitlines() if ".venv/bin/python" in line and "-m venv" not in line]
    assert "gpu_missing.py" in lines[0] and "speed.py" in lines[-1]
    scripts = re.findall(r"benchmarks/\w+\.py", "\n".join(lines))
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize(("cuda", "told"), [("13.0", "finds none"), (None, "was built without CUDA")])
def test_a_machine_without_a_gpu_is_told_what_is_missing(gpu_missing, monkeypatch, cuda, told):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(gpu_missing, "find_spec", lambda name: None if name == "torchattacks" else object())
    gpu, package = gpu_missing.missing()
    assert told in gpu and package == "no torchattacks: pip install '.[gpu]'"


def test_a_machine_with_everything_lacks_nothing(gpu_missing, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(gpu_missing, "find_spec", lambda name: object())
    assert list(gpu_missing.missing()) == []
