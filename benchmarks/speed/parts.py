"""The parts of a benchmark's result, so that one can be measured again and the others stay."""

from collections.abc import Mapping
from pathlib import Path


def parts_of(file: Path) -> dict[str, str]:
    """Title -> text of each part of a result, in order; none where there is no result yet."""
    if not file.exists():
        return {}
    return dict(part.strip().split("\n\n", 1) for part in file.read_text().split("\n## ")[1:])


def joined(introduction: str, parts: Mapping[str, str]) -> str:
    """The result as it stands in its file."""
    return "\n\n".join([introduction.strip(), *(f"## {t}\n\n{p.strip()}" for t, p in parts.items())]) + "\n"
