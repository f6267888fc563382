"""The site: pages of mkdocs.yml exist, links lead somewhere, documented names can be imported."""

import importlib
import re
from pathlib import Path

import pytest

from robustbench_coded import api
from tests.docs.conftest import module_at

ROOT = Path(__file__).parents[2]
NAV = re.findall(
    r"^ +- [^:\n]+: (\S+)$", (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1], re.MULTILINE
)
NAMES = re.findall(r"^::: (\S+)", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The folder that mkdocs builds the site from."""
    staging = module_at(ROOT / "docs" / "site" / "staging.py")
    staging.STAGED = tmp_path_factory.mktemp("site") / "pages"
    config = staging.on_config({"docs_dir": "docs"})
    return Path(config["docs_dir"])


def test_pages_of_the_navigation_are_staged(staged):
    assert len(NAV) > 25
    assert [page for page in NAV if not (staged / page).is_file()] == []


def test_links_of_every_staged_page_lead_to_a_staged_file(staged):
    lost = []
    for page in staged.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"(?<!`)\]\(([^)#\s]+)", text):
            folder = (ROOT / page.parent.relative_to(staged) / target).is_dir()  # a code host shows it
            if "://" not in target and not folder and not (page.parent / target).is_file():
                lost.append(f"{page.relative_to(staged)}: {target}")
    assert lost == []


def test_links_to_a_heading_find_it(staged):
    lost = []
    for page in staged.rglob("docs/*.md"):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            text = (page.parent / target).read_text() if target else page.read_text()
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            if anchor not in {
                re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in headings
            }:
                lost.append(f"{page.name}: {target}#{anchor}")
    assert lost == []


@pytest.mark.parametrize("name", NAMES)
def test_documented_names_can_be_imported_and_have_a_docstring(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute).__doc__


def test_the_reference_has_every_public_name():
    assert set(api.__all__) <= {name.rpartition(".")[2] for name in NAMES}


def test_the_site_asks_no_other_host_for_anything():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings and "://" not in settings
