"""run.json of a run folder that anybody may have written."""

from pathlib import Path

from attacks.naming import parse
from robustbench_coded.errors import InputError
from robustbench_coded.runs.folder import read_manifest
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.manifest import ManifestError, RunManifest, manifest_from


def load_manifest(path: Path) -> RunManifest:
    """run.json of a run folder, checked.

    Raises:
        InputError: no run folder, a part of run.json is missing or of the wrong kind, or it names an attack
            that this version does not know.
    """
    try:
        manifest = manifest_from(read_manifest(path))
        for i, row in enumerate(manifest.rows):
            if row.attack not in CONTROLS:
                _check_attack(row.attack, f"rows[{i}].attack")
    except ManifestError as error:
        raise InputError(
            f"{path}/run.json: {error}; restore it, or start the run anew with --overwrite"
        ) from error
    return manifest


def _check_attack(name: str, where: str) -> None:
    try:
        parse(name)
    except ValueError as error:
        raise ManifestError(f"{where}: {name[:80]!r} is not an attack that this version knows") from error
