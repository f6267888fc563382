"""docs/glossary.md: every name of code in it exists, and no word has two meanings."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| term", "| ---"))
]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[2])})


@pytest.mark.parametrize("name", NAMES)
def test_names_of_code_exist(name):
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute)


def test_each_term_is_explained_once_and_few_are_our_own():
    terms = [term.strip() for row in ROWS for term in row[0].split(",")]
    assert len(terms) > 50 and len(terms) == len(set(terms))
    assert all(len(row) == 3 and row[1] for row in ROWS)
    own = PAGE.partition("## Terms of csrobust")[2]
    assert own.count("\n| ") - 2 <= 40
