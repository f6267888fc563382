"""The Dockerfile and `make gpu-check`: what they run exists."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def dry(target):
    return subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_the_container_runs_targets_that_exist():
    text = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"RUN make (\w+)", text) + re.findall(r'"make", "(\w+)"', text)
    assert targets == ["install", "eval"]
    assert re.search(r"^FROM python:3\.\d+-slim-[a-z]+$", text, re.MULTILINE)  # a release of its system
    assert "csrobust eval" in dry(targets[-1])


def test_the_container_has_what_the_job_reads():
    left_out = (ROOT / ".dockerignore").read_text().split()
    needed = {"attacks", "robustbench_coded", "checkpoints", "pyproject.toml", "constraints.txt"}
    needed |= {"Makefile", "README.md"}
    assert needed.isdisjoint(left_out)
    assert all((ROOT / name).exists() for name in needed)


def test_the_check_of_an_accelerator_is_a_script_of_the_tree():
    (script,) = re.findall(r"benchmarks/\S+\.py", dry("gpu-check"))
    assert (ROOT / script).is_file()
