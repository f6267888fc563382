"""Nobody is told to install csrobust from an index, where whoever registers the name would run code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("robustbench_coded", "attacks", "docs", "zoo", "benchmarks", "recipes", ".github", ".ci")
ENDINGS = (".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".sh", ".ipynb", ".jinja", ".html")
# The distribution of that name among what is installed; with "@" behind it, it is at an address.
FROM_INDEX = re.compile(
    r"\b(pipx?|pip3|uv|conda|tool) (install|add)( [\w.<>=!-]+)* ['\"]?csrobust(?!\w|(\[[\w,]*\])? *@)"
)


def texts():
    for path in [*ROOT.glob("*"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]:
        if path.is_file() and (path.suffix in ENDINGS or path.name in ("Makefile", "Dockerfile")):
            yield path, path.read_text(encoding="utf-8")


def test_no_page_and_no_message_installs_from_an_index():
    found = {str(path.relative_to(ROOT)): FROM_INDEX.findall(text) for path, text in texts()}
    assert {name for name, lines in found.items() if lines} == set()
    assert {"README.md", "docs/in-memory.md", "robustbench_coded/installation.py"} <= set(found)
