"""docs/glossary.md: each term is explained once, and is in use elsewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
PAGES = [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if page.stem != "glossary")]
REPORTS = (ROOT / "robustbench_coded" / "reports").rglob("*.py")  # what reports print
OTHERS = [*(page.read_text() for page in PAGES), "".join(path.read_text() for path in REPORTS)]


def rows(text):
    """Terms and meanings."""
    return re.findall(r"^\| (?!term |---)([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)


def terms_of(text):
    return [term for row in rows(text) for term in row[0].split(", ")]


def test_each_term_is_explained_once():
    terms = terms_of(PAGE)
    assert len(terms) > 20 and len(terms) == len(set(terms))


@pytest.mark.parametrize("term", terms_of(PAGE))
def test_a_term_is_used_on_two_other_pages_or_on_one_and_in_reports(term):
    """A word that a single page needs is explained there."""
    word = re.compile(rf"\b{term}(s|es)?\b", re.IGNORECASE)
    assert sum(bool(word.search(text)) for text in OTHERS) >= 2
