"""A hook of mkdocs: copies the pages of the repository into one folder, with the layout of the repository.

mkdocs wants all pages below one folder, and the pages of this repository link across folders. Since the
layout is kept, their links work in the site, in a checkout and on a code host alike.
"""

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
    "docs/notebooks/*.ipynb",
    "benchmarks/*.md",
    "checkpoints/manifest.toml",
    "reports/**/*.md",
    "reports/**/figures/*",
    "reports/paper-figures/*",
)


def on_config(config: Any) -> Any:
    """Copies the pages and points mkdocs at the copies."""
    shutil.rmtree(STAGED, ignore_errors=True)
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            if page.is_file():
                copy = STAGED / page.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(page, copy)
    config["docs_dir"] = str(STAGED)
    return config
