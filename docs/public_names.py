"""The public names for docs/reference.md: what each takes, and the first sentence of its docstring."""

import importlib
import inspect
import re
from pathlib import Path

PAGE = Path(__file__).with_name("reference.md")
STARS: dict[int, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
NAME = re.compile(r"^::: (\S+)$", re.MULTILINE)


def public_names() -> str:
    """A line for each name that the page lists for the site."""
    return "\n".join(f"- `{_called(path)}`: {_sentence(path)}" for path in NAME.findall(PAGE.read_text()))


def named(path: str) -> object:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _called(path: str) -> str:
    """The name, with its arguments if it is a function."""
    found, name = named(path), path.rpartition(".")[2]
    if not inspect.isfunction(found):
        return name
    arguments = (
        STARS.get(argument.kind, "") + argument.name
        for argument in inspect.signature(found).parameters.values()
    )
    return f"{name}({', '.join(arguments)})"


def _sentence(path: str) -> str:
    paragraph = " ".join((inspect.getdoc(named(path)) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph.replace("``", "`"))[0]
