"""Phrases and options that csrobust no longer uses, in help, reports and pages; docstrings' first words."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from robustbench_coded.cli.help import command_help
from tests.cli.conftest import every_command

ROOT = Path(__file__).parents[2]
SOURCES = [path for name in ("robustbench_coded", "attacks") for path in sorted((ROOT / name).rglob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEMPLATES = sorted((ROOT / "robustbench_coded" / "reports" / "render" / "templates").iterdir())
PHRASES = (
    "bare network",
    "undefended network",
    "right answers left",
    "nothing was left to find",
    "what is left under attack",
    "all attacks together leave",
    "what would change it",
    "other images like",
    "clean accuracy given up",
    "for these inputs in these batches",
    "nothing else can be said",
    "which is no proof",
    "leads nowhere",
    "share of right answers, in",
    "is condemned",
    "ladder of praise",
    "as it never is",
    "who asks",
    "network alone",
    "memory emptied",
    "is told apart",
    "is spared",
)
OPTIONS = ("--budget", "--drop", "--no-drop", "--peer-raw", "--memory", "--sequence")
FORMER = re.compile(
    "|".join(map(re.escape, PHRASES)) + "|" + "|".join(rf"(?<![\w-]){option}(?![\w-])" for option in OPTIONS),
    re.IGNORECASE,
)


@cache
def parsed(path):
    return ast.parse(path.read_text())


def former_words(text):
    return FORMER.findall(" ".join(text.split()))


def printed_texts(tree):
    """Constant strings that are no docstrings, joined where the code joins them."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def public_docstrings(node, name=""):
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if named and not child.name.startswith("_"):
            yield f"{name}.{child.name}", ast.get_docstring(child) or ""
            if isinstance(child, ast.ClassDef):
                yield from public_docstrings(child, f"{name}.{child.name}")


@pytest.mark.parametrize("text", ["Nothing was left\nto find", "add --budget 10", "--drop"])
def test_former_words_are_seen(text):
    assert former_words(text)


@pytest.mark.parametrize("text", ["--dropout 0.1", "--sequence-length 8"])
def test_other_words_are_not(text):
    assert not former_words(text)


def test_no_page_or_template_has_former_words():
    former = {path.name: former_words(path.read_text()) for path in [*PAGES, *TEMPLATES]}
    assert {name: words for name, words in former.items() if words} == {}


def test_no_message_or_sentence_of_reports_has_former_words():
    former = {
        path.relative_to(ROOT): words
        for path in SOURCES
        if (words := [w for text in printed_texts(parsed(path)) for w in former_words(text)])
    }
    assert former == {}


def test_no_help_has_former_words():
    texts = [command_help(command) for command in every_command().values()]
    assert len(texts) > 5 and [former_words(text) for text in texts if former_words(text)] == []


def test_no_public_docstring_begins_with_what_or_whether():
    begun = [
        f"{path.relative_to(ROOT)}{name}"
        for path in SOURCES
        for name, docstring in public_docstrings(parsed(path))
        if re.match(r"(What|Whether)\b", docstring)
    ]
    assert begun == []
