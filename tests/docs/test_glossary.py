"""docs/glossary.md: each term is explained once, is in use elsewhere, and few are csrobust's own."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
PAGES = [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if page.stem != "glossary")]
REPORTS = (ROOT / "robustbench_coded" / "reports").rglob("*.py")  # what reports print
OTHERS = [*(page.read_text() for page in PAGES), "".join(path.read_text() for path in REPORTS)]
MOST_OF_OUR_OWN = 12


def rows(text):
    """Terms and meanings."""
    return re.findall(r"^\| (?!term |---)([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)


def terms_of(text):
    return [term for row in rows(text) for term in row[0].split(", ")]


def test_each_term_is_explained_once_and_few_are_our_own():
    terms = terms_of(PAGE)
    assert len(terms) > 20 and len(terms) == len(set(terms))
    own = rows(PAGE.partition("\n## Terms of csrobust\n")[2])
    assert 0 < len(own) <= MOST_OF_OUR_OWN


@pytest.mark.parametrize("term", terms_of(PAGE))
def test_a_term_is_used_on_two_other_pages_or_on_one_and_in_reports(term):
    """A word that a single page needs is explained there."""
    word = re.compile(rf"\b{term}(s|es)?\b", re.IGNORECASE)
    assert sum(bool(word.search(text)) for text in OTHERS) >= 2


# Words that first-time readers did not know, or that the field uses otherwise.
PRIVATE = re.findall(
    r"\S+",
    """aware board case co-batch collateral crossover floor gain joint league margin mosaic need outlook peer
    protocol relaxed resubmission rung self-test slot strongest subject unit victim zoo""",
)
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]*>|\{[{%].*?[%}]\}", re.DOTALL)
PACKAGE = ROOT / "robustbench_coded"


def messages(path):
    """Sentences that a module prints, and the help of its commands."""
    tree = ast.parse(path.read_text())
    described = [
        node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    docstrings = {id(node.body[0].value): node for node in described if ast.get_docstring(node) is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            described = docstrings.get(id(node))
            if described is None or getattr(described, "name", "").endswith("_command"):
                yield node.value


def test_private_words_are_few_and_explained():
    """One that a single page needs is explained there."""
    places = [CODE.sub(" ", page.read_text()) for page in PAGES]
    places += ["\n".join(CODE.sub(" ", path.read_text()) for path in PACKAGE.rglob("*.j2"))]
    places += ["\n".join(text for path in PACKAGE.rglob("*.py") for text in messages(path))]
    words = {
        word: re.compile(rf"(?<![\w-])(?<!csrobust ){word}s?(?![\w./-])", re.IGNORECASE) for word in PRIVATE
    }
    met = {word for word in PRIVATE if sum(bool(words[word].search(place)) for place in places) > 1}
    explained = " ".join([*terms_of(PAGE), *re.findall(r"\*([^*]+)\*", PAGE)])
    assert {word for word in met if not words[word].search(explained)} == set()
    assert {"rung", "victim", "zoo"} <= met  # of what is there, something is found
