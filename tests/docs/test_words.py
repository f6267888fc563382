"""Phrases that csrobust does not use, and the first words of public docstrings."""

import ast

import pytest

from robustbench_coded.cli.main import main
from tests.docs.test_site import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPORTS = [ROOT / "reports" / "digits" / name for name in ("report.md", "details.md")]
# Private metaphors, participles as nouns and old names of options. The field's terms stand in docs/glossary.md.
PHRASES = (
    "bare network", "right answers left", "answers are right", "what is kept", "nothing was left", "other images like",
    "leads nowhere", "who asks", "is spared", "memory emptied", "memory kept", "the memory is kept", "given up",
    "ladder of", "undefended network alone", "be told apart from", "is told apart", "would change it",
    "these images, these", "as it never is", "network alone", "--budget", "--drop", "--no-drop", "--peer-raw",
    "--memory", "--sequence ", "batch_sizes=",
)  # fmt: skip


def pages():
    return [pytest.param(page, id=f"{page.parent.name}/{page.stem}") for page in (*PAGES, *REPORTS)]


@pytest.mark.parametrize("page", pages())
def test_no_page_has_a_phrase_of_our_own(page):
    text = " ".join(page.read_text().split()).lower()
    refused = {"batch_sizes="} if page.stem == "in-memory" else set()  # the page shows how it is refused
    assert [phrase for phrase in PHRASES if phrase in text and phrase not in refused] == []


@pytest.mark.parametrize(
    "command", ["eval", "sweep", "screen", "plan", "compare", "verify", "train", "shift"]
)
def test_no_help_has_one(command, capsys):
    main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split()).lower()
    assert len(text) > 500 and [phrase for phrase in PHRASES if phrase in text] == []


def public_docstrings():
    for folder in ("robustbench_coded", "attacks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    name = getattr(node, "name", "the module")
                    if not name.startswith("_") and (text := ast.get_docstring(node)):
                        yield f"{file.relative_to(ROOT)}: {name}", text


def test_no_public_docstring_begins_with_what_or_whether():
    texts = dict(public_docstrings())
    assert len(texts) > 2000
    assert [name for name, text in texts.items() if text.startswith(("What ", "Whether "))] == []


def test_the_list_of_phrases_is_short():
    assert len(PHRASES) <= 40 and len(set(PHRASES)) == len(PHRASES)
