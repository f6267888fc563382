"""Every program of benchmarks/ at its smallest: a benchmark that no longer runs measures nothing."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "benchmarks").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)
# They start other processes, which import the program that started them: a test is none.
ALONE = {"benchmarks/oracle/__main__.py", "benchmarks/speed/gpu_check.py"}
ALONE |= {name for name in PROGRAMS if "multiprocessing" in (ROOT / name).read_text()}
# Files of other people, or a package that has an environment of its own: they say so in a line.
NEEDY = {
    *(f"benchmarks/errors/{name}_run.py" for name in ("twins", "zoo")),
    *(f"benchmarks/networks/{name}.py" for name in ("robustbench_zoo", "strangers")),
    *(
        f"benchmarks/peers/{name}.py"
        for name in ("hard_images", "proofs", "published_weights", "robust_bench")
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_smoke_run_comes_to_its_end_and_leaves_nothing(program, monkeypatch):
    changed = ["git", "status", "--porcelain", "--", "benchmarks", "docs", "reports"]
    before = subprocess.run(changed, cwd=ROOT, capture_output=True, text=True).stdout
    monkeypatch.chdir(ROOT)
    if program in ALONE:
        path = os.pathsep.join([str(ROOT), *sys.path])
        words = [sys.executable, program, "--smoke"]
        environment = {**os.environ, "PYTHONPATH": path}
        subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=300)
    else:
        monkeypatch.setattr(sys, "argv", [program, "--smoke"])
        if program in NEEDY:
            with pytest.raises(SystemExit, match="no smoke run: needs "):
                runpy.run_path(program, run_name="__main__")
            return
        try:
            runpy.run_path(program, run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, ended
    assert subprocess.run(changed, cwd=ROOT, capture_output=True, text=True).stdout == before
