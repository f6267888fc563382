"""What an editor shows for `evaluate`, and docs/options.md, are from the one definition of the options."""

from pathlib import Path
from typing import Literal, get_type_hints

from msgspec import convert, to_builtins

from robustbench_coded.evaluation.options.config import OF_ARGUMENTS, EvalConfig, options
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from tests.docs.conftest import module_at

MADE = module_at(Path(__file__).parents[2] / "docs" / "options.py")
TYPES = get_type_hints(EvaluateOptions)
OPTIONS = {name: option for name, option in options().items() if name not in OF_ARGUMENTS}


def test_the_committed_files_are_those_that_the_definition_gives():
    """`python docs/options.py` writes them."""
    assert MADE.TYPED.read_text() == MADE.typed()
    assert MADE.PAGE.read_text() == MADE.page()
    assert TYPES.keys() == OPTIONS.keys()


def test_every_default_has_the_type_of_its_field():
    assert convert(to_builtins(EvalConfig()), EvalConfig) == EvalConfig()


def test_the_words_of_a_choice_are_its_rule_and_its_type():
    assert OPTIONS["engine"].rule("steam") == "is not known; choose local or ray"
    assert TYPES["engine"] == Literal["local", "ray"]
    assert OPTIONS["until"].rule("now") == "is not known; choose settled"
