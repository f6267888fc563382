"""Files that the documentation names are in the tree."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
WRITTEN = ("reports/mine", "reports/first", "runs/", "data/cifar")  # by a reader


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
