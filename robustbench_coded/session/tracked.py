"""Whether git tracks a run folder, so that an evaluation would change committed files."""

import subprocess
from pathlib import Path


def tracked_by_git(folder: Path) -> bool:
    """Whether any file in a folder is tracked; False where there is no git."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--", "."], capture_output=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(found.stdout.strip())
