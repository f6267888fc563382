"""docs/glossary.md: every name of code in it exists, and no word has two meanings."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| word", "| ---"))
]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[2])})


@pytest.mark.parametrize("name", NAMES)
def test_names_of_code_exist(name):
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute)


def test_each_word_is_explained_once():
    words = [word.strip() for row in ROWS for word in row[0].split(",")]
    assert len(words) > 50 and len(words) == len(set(words))
    assert all(len(row) == 3 and row[1] for row in ROWS)
