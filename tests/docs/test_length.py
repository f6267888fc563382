"""The documentation is short, and gets no longer."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_WORDS = 17_774  # lower it with every page that gets shorter; the goal is 17,000


def words(text):
    """How many words have a letter or a digit; marks of tables and lists have none."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def test_marks_are_no_words():
    assert words("| a | `b-c` | --- |\n- 12 words") == 4


def test_the_documentation_stays_below_its_ceiling():
    pages = {page.name: words(page.read_text()) for page in PAGES}
    assert sum(pages.values()) <= MOST_WORDS, f"{sum(pages.values()):,} words: {pages}"
