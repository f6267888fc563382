"""The notebooks run from the first cell to the last, and are committed with what they show."""

import json
import re
from pathlib import Path

import pytest

import robustbench_coded
from robustbench_coded.evaluation.session.from_python import evaluate
from tests.docs.conftest import module_at

pytestmark = pytest.mark.long

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
FEW = {"limit": 32, "batch_size": 16, "draws": 2, "threads": 1}


@pytest.fixture(scope="module")
def run_cells():
    return module_at(NOTEBOOKS[0].with_name("run_cells.py"))


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A folder of its own, and few images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        robustbench_coded, "evaluate", lambda *given, **more: evaluate(*given, **more | FEW), raising=False
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_and_show_what_is_committed(path, run_cells, short):
    committed = json.loads(path.read_text())
    kinds = [_kinds(cell) for cell in committed["cells"]]
    ran = run_cells.run_notebook(json.loads(path.read_text()))
    assert [_kinds(cell) for cell in ran["cells"]] == kinds
    assert any(kinds)


def _kinds(cell):
    return [output["output_type"] for output in cell.get("outputs", ())]


def test_a_cell_that_fails_is_not_passed_over(run_cells):
    cell = {"cell_type": "code", "source": ["1 / 0"], "outputs": []}
    with pytest.raises(ZeroDivisionError):
        run_cells.run_notebook({"cells": [cell]})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_name_no_folder_of_the_machine_that_made_them(path):
    assert not re.search(r"(?<![\w.])/(home|tmp|root|work|usr)/", path.read_text())
