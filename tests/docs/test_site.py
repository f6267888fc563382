"""The site: pages of mkdocs.yml exist, links and paths lead somewhere, documented names can be imported."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest

from robustbench_coded import api
from tests.docs.conftest import module_at

ROOT = Path(__file__).parents[2]
NAV = re.findall(
    r"^ +- [^:\n]+: (\S+)$", (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1], re.MULTILINE
)
NAMES = re.findall(r"^::: (\S+)", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FOLDERS = [
    "attacks",
    "benchmarks",
    "board-entries",
    "checkpoints",
    "docs",
    "recipes",
    "reports",
    "tests",
    "zoo",
]
FOLDERS += [folder.name for folder in (ROOT / "robustbench_coded").iterdir() if folder.is_dir()]
NAMED = re.compile(rf"`((?:robustbench_coded|{'|'.join(FOLDERS)})/[\w./-]+\w)/?`")
WRITTEN = ("runs/", "data/cifar")  # by a reader


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
    for page in (*staged.rglob("docs/*.md"), staged / "reports" / "README.md"):
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


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(listed.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_in_the_tree(page, tracked):
    named = {name for name in NAMED.findall(page.read_text()) if not name.startswith(WRITTEN)}
    there = {str(parent) for file in tracked for parent in (Path(file), *Path(file).parents)}
    assert not {name for name in named if not {name, f"robustbench_coded/{name}"} & there}


def test_every_page_that_code_or_a_table_names_is_there(tracked):
    command = ["git", "grep", "-hoE", r"docs/[a-z-]+\.md", "--", "*.py", "*.md", "*.toml", "Makefile"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(named) > 50 and not set(named) - tracked
