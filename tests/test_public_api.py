"""The public interface changes only together with CHANGELOG.md, which has the digest of its signatures."""

import builtins
import hashlib
import inspect
import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import robustbench_coded
from robustbench_coded.evaluation.options.typed import EvaluateOptions

OURS = ("robustbench_coded", "attacks")
CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def signatures() -> Iterator[str]:
    """A line for each public function, class and public method, with the names and defaults of parameters."""
    for name in robustbench_coded.PUBLIC:
        value = getattr(robustbench_coded, name)
        if not inspect.isclass(value):
            yield f"{name}{parameters(value)}"
            continue
        yield f"class {name}{'' if issubclass(value, Exception) else parameters(value)}"
        own = (vars(cls) for cls in reversed(value.__mro__) if cls.__module__.startswith(OURS))
        for member, part in sorted(reduce(or_, map(dict, own), {}).items()):
            if not member.startswith("_"):
                yield f"{name}.{member}{parameters(part) if inspect.isfunction(part) else ''}"
    yield f"options of evaluate: {', '.join(sorted(EvaluateOptions.__annotations__))}"


def parameters(value: Any) -> str:
    """Names and defaults; annotations differ from one Python to the next."""
    try:
        given = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in given.parameters.values()]
    return str(given.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def test_a_change_of_the_interface_is_in_the_changelog():
    text = "\n".join(signatures())
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    mark = f"<!-- public interface {digest} -->"
    assert mark in CHANGELOG.read_text(), f"describe the change in CHANGELOG.md and put {mark} there:\n{text}"


def test_errors_that_docstrings_name_can_be_imported():
    named = {
        name: re.findall(r"^    +([A-Z]\w+):", inspect.getdoc(value).partition("Raises:")[2], re.MULTILINE)
        for name in robustbench_coded.PUBLIC
        if inspect.isfunction(value := getattr(robustbench_coded, name))
    }
    assert "IncompleteRun" in named["evaluate"]
    known = {*robustbench_coded.PUBLIC, *dir(builtins)}
    assert {error for errors in named.values() for error in errors} <= known


def test_the_lines_name_every_parameter():
    lines = dict(line.partition("(")[::2] for line in signatures() if "(" in line)
    assert {"model", "x", "y"} <= set(re.findall(r"[a-z_]+", lines["attack"]))
    assert "at_least" in lines["assert_accuracy_under_attack"]
    assert not any(" at 0x" in line for line in lines.values())  # the same in every process
