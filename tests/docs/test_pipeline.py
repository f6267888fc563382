"""The project of ten lines of docs/in-memory.md: its test, and its action's lines, in a folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "in-memory.md").read_text()
TEST = re.search(r"```python\n# test_robustness.py\n(.*?)```", PAGE, re.DOTALL)[1]
ACTION = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
LINES = re.findall(r"- run: (.+)", ACTION)


def ran(line, folder, **environment):
    """Exit code of a line of the action, with this environment's programs."""
    program, *arguments = shlex.split(line)
    csrobust = ["-c", "from robustbench_coded.cli.main import main; raise SystemExit(main())"]
    found = [sys.executable, *([] if program == "python" else csrobust)]
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [*found, *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **path}, check=False).returncode


@pytest.mark.long
def test_the_project_of_ten_lines_passes_and_its_action_stops_a_broken_network(tmp_path):
    shutil.copy(ROOT / "checkpoints" / "digits-erm.safetensors", tmp_path / "model.pt")
    (tmp_path / "test_robustness.py").write_text(TEST)
    assert len(ACTION.splitlines()) == 10 and LINES[0] == 'pip install pytest "csrobust @ git+URL"'
    check, gate = LINES[1:]
    assert ran(check, tmp_path) == 0
    stricter = TEST.replace("eps=0.01", "eps=0.3")
    (tmp_path / "test_robustness.py").write_text(stricter)
    assert ran(check, tmp_path) == 1
    assert ran(f"{gate} --attacks pgd-5", tmp_path) == 3
    suite = ElementTree.parse(tmp_path / "verdicts.xml").getroot()
    assert suite.get("failures") == "1"
