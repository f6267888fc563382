"""The preset ``full`` holds whatever the default can come to."""

import ast
from pathlib import Path

import pytest

from attacks import presets
from attacks.presets import PRESETS

PACKAGE = Path(__file__).parents[2] / "robustbench_coded"
# What plans and runs an evaluation, and judges it; commands and plug-ins name attacks of their own.
DECIDING = ("evaluation", "judge")
FILLED = {"AVERAGED": (10,), "FROM_TRANSFER": ("aware", "eot10")}


def asked_for() -> set[str]:
    """The names of ``attacks.presets`` that those packages read."""
    found = set()
    for path in (path for folder in DECIDING for path in (PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "attacks.presets":
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.update([node.attr] if node.value.id == "presets" else [])
    return {name for name in found if name.isupper()} - {"PRESETS", "DEFAULT", "IN_L0"}


def test_they_are_found():
    assert {"BY_LABELS", "TRANSFER", "SEARCHES", "FROM_TRANSFER", "ADAPTIVE"} <= asked_for()


@pytest.mark.parametrize("name", sorted(asked_for()))
def test_what_the_default_can_ask_for_is_in_full(name):
    value = getattr(presets, name)
    forms = (value,) if isinstance(value, str) else value
    attacks = [form.format(number) for form in forms for number in FILLED.get(name, ("",))]
    assert set(attacks) <= set(PRESETS["full"])


@pytest.mark.parametrize("preset", ["paper", "adaptive"])
def test_what_the_default_begins_with_is_in_full(preset):
    assert set(PRESETS[preset]) <= set(PRESETS["full"])
