"""How large the project may be: ceilings that only go down. A concept is added when two are removed.

A line of code holds more than a comment, a docstring or nothing. Imports count. A ceiling higher than what
is there is lowered in the same change. It is never raised.
"""

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_coded.cli.app import commands, find
from robustbench_coded.judge.rules import RULES
from robustbench_coded.schema.words import CheckName

ROOT = Path(__file__).parents[1]
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
NO_CODE = LAYOUT | {tokenize.COMMENT}
SLACK = 0.01  # of a ceiling that may be left below it, and at least 20 lines

# Folder -> lines of code, files, and the lines of code that it should come down to.
CEILINGS = {
    "attacks": (4527, 36, 3900),
    "robustbench_coded/cli": (1064, 12, 1000),
    "robustbench_coded/coding": (188, 4, 188),
    "robustbench_coded/data": (912, 7, 860),
    "robustbench_coded/defences": (1276, 11, 1200),
    "robustbench_coded/evaluation": (6418, 49, 4900),
    "robustbench_coded/extras": (2739, 28, 2450),
    "robustbench_coded/judge": (2279, 18, 1850),
    "robustbench_coded/models": (2511, 23, 2300),
    "robustbench_coded/options": (254, 4, 230),
    "robustbench_coded/paper": (3702, 29, 3200),
    "robustbench_coded/reports": (2687, 29, 2150),
    "robustbench_coded/runs": (698, 6, 650),
    "robustbench_coded/schema": (362, 4, 340),
    "robustbench_coded/*.py": (603, 12, 532),
    "tests": (29955, 296, 25200),
    "benchmarks": (6648, 55, 6000),
    "zoo": (2030, 16, 2030),
}
SHIPPED = (30220, 46384)  # lines of code and lines of attacks and robustbench_coded together
OPTIONS, COMMANDS, VERDICT_RULES, CHECKS = 37, 14, 11, 7
WORDS = 16_373  # of README.md and docs/
REPORTS = (102, 9.2)  # committed files in reports/, and their MiB


def code_lines(source: str) -> int:
    """Lines that hold code."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, described) and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = [range(token.start[0], token.end[0] + 1) for token in tokens if token.type not in NO_CODE]
    return len({line for span in spans for line in span} - docstrings)


def files_of(place: str) -> Iterator[Path]:
    """The Python files of a folder, or those that a pattern names."""
    yield from (ROOT.glob(place) if place.endswith(".py") else (ROOT / place).rglob("*.py"))


def test_a_line_of_code_is_neither_blank_nor_a_comment_nor_a_docstring():
    module = '"""A module.\n\nOf two parts.\n"""\n\nimport io  # used\n\n# why\n'
    function = 'def f():\n    """Says."""\n    return """\nx\n"""\n'
    assert code_lines(module + function) == 5  # the import, the signature, three lines of a string


@pytest.mark.parametrize("place", CEILINGS)
def test_no_package_grows(place):
    ceiling, most_files, target = CEILINGS[place]
    found = [path.read_text() for path in files_of(place)]
    size = sum(map(code_lines, found))
    assert size <= ceiling, f"{place} has {size} lines of code, {ceiling} are allowed"
    assert len(found) <= most_files, f"{place} has {len(found)} files, {most_files} are allowed"
    assert size >= ceiling - max(20, SLACK * ceiling), f"{place} has {size} lines of code: lower its ceiling"
    assert target <= ceiling, f"{place}: its target is above its ceiling"


def test_the_shipped_code_does_not_grow():
    found = [path.read_text() for place in ("attacks", "robustbench_coded") for path in files_of(place)]
    assert (sum(map(code_lines, found)), sum(text.count("\n") for text in found)) <= SHIPPED


def test_concepts_are_counted():
    assert len(commands()) <= COMMANDS, commands()
    evaluation, _ = find(["eval"])
    options = [name for name, option in evaluation.parameters.items() if not option.positional]
    assert len(options) <= OPTIONS, options
    assert len(RULES) <= VERDICT_RULES
    assert len(CheckName) <= CHECKS


def test_the_documentation_does_not_grow():
    """A word has a letter or a digit; marks of tables and lists are none."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    words = [word for page in pages for word in page.read_text().split() if any(map(str.isalnum, word))]
    assert WORDS - SLACK * WORDS <= len(words) <= WORDS


def test_reports_do_not_grow():
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", "reports"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an archive of the project, which has what is committed
        paths = [path for path in (ROOT / "reports").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in paths if path.exists()) / 2**20
    assert len(paths) <= REPORTS[0]
    assert size <= REPORTS[1]
