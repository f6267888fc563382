"""Which attacks a run was computed with: their code, since a version number says less than a file."""

import functools
import hashlib
from pathlib import Path

import attacks
from robustbench_coded.schema.manifest import RunManifest

VERSION = "attacks"  # among the versions of an invocation


@functools.cache
def attack_code() -> str:
    """Twelve hexadecimal digits for the names and contents of the package's files."""
    package, digest = Path(attacks.__path__[0]), hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def other_attacks(begun: RunManifest) -> list[str]:
    """What to tell the reader where a run goes on with other attacks than it was begun with; else nothing."""
    before = [invocation.versions.get(VERSION) for invocation in begun.invocations]
    if not any(code not in (None, attack_code()) for code in before):
        return []
    return [
        "The code of the attacks has changed since this run was begun. What was computed before stays as it "
        "was, so rows may mix both; --overwrite computes everything again."
    ]
