"""Papers and files that the documentation names are in its list of references and in the tree."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCES = ROOT / "docs" / "references.md"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
ARXIV = re.compile(r"(?:arXiv:? ?|arxiv\.org/abs/)(\d{4}\.\d{4,5})", re.IGNORECASE)
INVENTED = {"0000.00000", "1111.11111"}  # in the example of an entry of the board
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
WRITTEN = ("reports/mine", "reports/first", "runs/", "data/cifar")  # by a reader


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(listed.splitlines())


def references():
    return dict(re.findall(r"^\| (\d{4}\.\d{4,5}) \| (.+) \|$", REFERENCES.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_paper_is_in_the_list(page):
    assert set(ARXIV.findall(page.read_text())) - INVENTED <= references().keys()


def test_every_reference_is_named_somewhere_and_has_a_title():
    named = {found for page in PAGES if page != REFERENCES for found in ARXIV.findall(page.read_text())}
    assert references().keys() <= named and all(len(title.split()) > 3 for title in references().values())
    assert list(references()) == sorted(references())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_in_the_tree(page, tracked):
    named = {name for name in NAMED.findall(page.read_text()) if not name.startswith(WRITTEN)}
    there = {str(parent) for file in tracked for parent in (Path(file), *Path(file).parents)}
    assert not {name for name in named if not {name, f"robustbench_coded/{name}"} & there}


def test_every_page_that_code_or_a_table_names_is_there(tracked):
    command = ["git", "grep", "-hoE", r"docs/[a-z-]+\.md", "--", "*.py", "*.md", "*.toml", "Makefile"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(named) > 50 and not set(named) - tracked
