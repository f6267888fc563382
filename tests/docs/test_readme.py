"""The tables of README.md are those of the committed reports (`make rewrite` after a change)."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def findings():
    spec = importlib.util.spec_from_file_location("readme_findings", ROOT / "docs" / "readme_findings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_reports(findings):
    mending = "README.md differs from reports/; run python docs/readme_findings.py and commit"
    assert findings.with_blocks(README) == README, mending


def test_a_changed_figure_is_noticed(findings):
    (line,) = (line for line in README.splitlines() if "RCI, N = 190" in line)
    assert findings.with_blocks(README.replace(line, line.replace("30.1", "31.1", 1))) == README


def test_the_first_command_stands_on_the_first_screen_and_the_page_is_short():
    lines = README.splitlines()
    assert next(i for i, line in enumerate(lines) if line.startswith("csrobust eval")) < 25
    assert len(README.split()) <= 900


def test_third_parties_are_marked_on_the_right_side_of_the_truth(findings):
    assert findings._side(0.90, 0.94, 0.95) == "too low"
    assert findings._side(0.99, 0.94, 0.95) == "too high"
    assert findings._side(0.97, 0.94, 0.95) == ""
