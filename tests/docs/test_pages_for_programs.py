"""docs/llms.txt has every page; it, README.md and the site have one map."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_list_for_language_models_has_every_page_once():
    linked = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/llms.txt").read_text())
    assert sorted(linked) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def pages_by_section(text, section, link):
    """The pages of docs/ that each section of a map links to, in order."""
    heads = [*re.finditer(section, text, re.MULTILINE)]
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {head[1]: re.findall(link, text[head.end() : end]) for head, end in zip(heads, ends, strict=True)}


def test_readme_the_site_and_the_list_for_language_models_have_one_map():
    site = pages_by_section(
        (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2], r"^  - ([^:\n]+):$", r"docs/([\w-]+\.md)"
    )
    models = pages_by_section((ROOT / "docs/llms.txt").read_text(), r"^## (.+)$", r"\]\(([\w-]+\.md)\)")
    documentation = (ROOT / "README.md").read_text().partition("## Documentation\n")[2]
    readme = pages_by_section(documentation, r"^- \*\*(.+)\*\*:", r"\]\(docs/([\w-]+\.md)\)")
    assert site == models == readme and len(site) == 6
