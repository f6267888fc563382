"""What an editor completes are the options that there are, with the values that their rules accept."""

from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from robustbench_coded.evaluation.session.from_python import MADE_HERE

TYPES = get_type_hints(EvaluateOptions)
OPTIONS = {option.name: option for option in fields(EvalConfig) if option.name not in MADE_HERE}


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


def test_the_names_are_those_of_the_configuration():
    assert TYPES.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_has_the_type_that_the_editor_shows(name):
    assert accepts(TYPES[name], OPTIONS[name].default)


LITERALS = {
    name: next(iter(choice))
    for name, annotation in TYPES.items()
    if (
        choice := [
            get_args(part) for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal
        ]
    )
}


@pytest.mark.parametrize("name", LITERALS)
def test_the_values_that_the_editor_offers_are_those_of_the_rule(name):
    rule = OPTIONS[name].metadata["rule"]
    assert [rule(value) for value in LITERALS[name]] == [None] * len(LITERALS[name])
    assert all(f"{value}" in rule("nothing") for value in LITERALS[name])
    assert rule("nothing").count(" or ") + rule("nothing").count(",") == len(LITERALS[name]) - 1


def test_an_option_with_a_choice_has_no_other_type():
    chosen = {
        name for name, option in OPTIONS.items() if "choose" in str((option.metadata.get("rule") or str)("?"))
    }
    assert chosen - {"norm"} == LITERALS.keys()
