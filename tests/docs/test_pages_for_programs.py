"""docs/llms.txt and AGENTS.md name files that exist, and llms.txt every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_list_for_language_models_has_every_page_once():
    linked = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/llms.txt").read_text())
    assert sorted(linked) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", ["docs/llms.txt", "AGENTS.md"])
def test_every_path_exists(path):
    page = ROOT / path
    text = page.read_text()
    links = [page.parent / link for link in re.findall(r"\]\(([^)#]+)\)", text)]
    quoted = re.findall(r"`((?:tests|evaluation|robustbench_coded)/[\w/.]+)`", text)
    paths = [ROOT / q if (ROOT / q).exists() else ROOT / "robustbench_coded" / q for q in quoted]
    assert len(links) > 2 and [str(p) for p in (*links, *paths) if not p.exists()] == []
