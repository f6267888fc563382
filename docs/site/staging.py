"""A hook of mkdocs: copies the pages of the repository into one folder, with the layout of the repository.

mkdocs wants all pages below one folder, and the pages of this repository link across folders. Since the
layout is kept, their links work in the site, in a checkout and on a code host alike.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGED = ROOT / "build" / "pages"
PAGES = (
    "*.md",
    "LICENSE",
    "docs/**/*.md",
    "docs/*.png",
    "docs/*.svg",
    "docs/notebooks/*.ipynb",
    "benchmarks/**/*.md",
    "checkpoints/manifest.toml",
    "reports/**/*.md",
    "reports/**/figures/*",
    "reports/paper-figures/*",
    "reports/board/*",
)


def on_config(config: Any) -> Any:
    """Copies the pages, notebooks as Markdown, too, and points mkdocs at the copies."""
    shutil.rmtree(STAGED, ignore_errors=True)
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            if page.is_file():
                copy = STAGED / page.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(page, copy)
    reference = STAGED / "docs" / "reference.md"
    reference.write_text(
        re.sub(r"<!-- For the site.*?\n(.*?)-->", r"\1", reference.read_text(), flags=re.DOTALL)
    )
    for page in sorted(STAGED.rglob("*.md")):
        _copy_linked_files(page)
    for notebook in STAGED.rglob("*.ipynb"):
        notebook.with_suffix(".md").write_text(_as_page(json.loads(notebook.read_text())))
    config["docs_dir"] = str(STAGED)
    return config


def _copy_linked_files(page: Path) -> None:
    """Files of the repository that a page links to and that are no pages themselves."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        copy = Path(os.path.normpath(page.parent / target))
        if "://" not in target and copy.is_relative_to(STAGED) and not copy.exists():
            original = ROOT / copy.relative_to(STAGED)
            if original.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(original, copy)


def _as_page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown, with what its cells print."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", ()):
            shown = output.get("text") or output["data"]["text/plain"]
            parts.append(f"```text\n{''.join(shown)}\n```")
    return "\n\n".join(parts) + "\n"
