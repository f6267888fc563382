"""What an editor shows for `evaluate`, and docs/options.md, are from the one definition of the options."""

from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from robustbench_coded.evaluation.options.config import OF_ARGUMENTS, options
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from tests.docs.conftest import module_at

MADE = module_at(Path(__file__).parents[2] / "docs" / "options.py")
TYPES = get_type_hints(EvaluateOptions)
OPTIONS = {name: option for name, option in options().items() if name not in OF_ARGUMENTS}


def accepts(annotation, value) -> bool:
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if alternatives := get_args(annotation):
        if isinstance(get_origin(annotation), type) and get_origin(annotation).__name__ == "Sequence":
            return isinstance(value, tuple) and all(accepts(alternatives[0], each) for each in value)
        return any(accepts(each, value) for each in alternatives)
    return isinstance(value, get_origin(annotation) or annotation) and not (
        annotation is int and isinstance(value, bool)
    )


def test_the_committed_files_are_those_that_the_definition_gives():
    """`python docs/options.py` writes them."""
    assert MADE.TYPED.read_text() == MADE.typed()
    assert MADE.PAGE.read_text() == MADE.page()
    assert TYPES.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_has_the_type_that_the_editor_shows(name):
    assert accepts(TYPES[name], OPTIONS[name].default)


def test_the_words_of_a_choice_are_its_rule_and_its_type():
    assert OPTIONS["engine"].rule("steam") == "is not known; choose local or ray"
    assert TYPES["engine"] == Literal["local", "ray"]
    assert OPTIONS["until"].rule("now") == "is not known; choose settled"
