"""run.json of a folder that anybody may have written: what reports rely on is checked, nothing else is
believed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.formatting import parsed_attack
from robustbench_coded.results.summary_rows import NULLS, Budget
from robustbench_coded.runs.folder import read_manifest
from robustbench_coded.statistics.outcomes import KEYS

MOST = 2**31 - 1


def checked_manifest(path: Path) -> dict[str, Any]:
    """run.json of a run folder, of a shape that the rest of `reports` can read without asking again.

    Raises:
        InputError: no run folder, or a part of run.json is missing or of the wrong kind.
    """
    manifest = read_manifest(path)
    try:
        _fields(manifest, "", MANIFEST)
        for i, row in enumerate(manifest["rows"]):
            _fields(row, f"rows[{i}].", ROW)
            for j, unit in enumerate(row["units"]):
                _fields(unit, f"rows[{i}].units[{j}].", UNIT)
        for i, checkpoint in enumerate(manifest["checkpoints"]):
            _fields(checkpoint, f"checkpoints[{i}].", CHECKPOINT)
    except _Wrong as error:
        raise InputError(
            f"{path}/run.json: {error}; restore it, or start the run anew with --overwrite"
        ) from error
    return manifest


def planned_rows(manifest: dict[str, Any]) -> pd.DataFrame:
    """One line per planned row, as `statistics.rows` wants it."""
    columns = [*KEYS, "examples_planned", "draws", "batch_dependent", "randomised"]
    lines = [
        {**{name: row[name] for name in columns}, "has_base": row.get("has_base") is not False}
        for row in manifest["rows"]
    ]
    frame = pd.DataFrame(lines, columns=[*columns, "has_base"])
    return frame.astype({"k": "Int64", "n": "Int64", "eps": "float64", "step_size": "float64"})


def unit_ids(manifest: dict[str, Any]) -> list[str]:
    """The ids of all planned units, in the order of the rows, each once."""
    return list(dict.fromkeys(unit["id"] for row in manifest["rows"] for unit in row["units"]))


def asked_budgets(manifest: dict[str, Any]) -> frozenset[Budget]:
    """Budgets that somebody asked for; a check may measure at another, which is not judged."""
    return frozenset(
        Budget(row["norm"], float(row["eps"]), row["eps_space"])
        for row in manifest["rows"]
        if row.get("for_check") is not True and row["attack"] != "clean"
    )


def part(data: Any, *names: Any) -> Any:
    """What lies at ``names`` in nested JSON data, None where anything on the way is missing or of another
    kind."""
    for name in names:
        try:
            data = data[name] if isinstance(data, dict | list) else None
        except (KeyError, IndexError, TypeError):
            return None
    return data


class _Wrong(Exception):
    """What is wrong with run.json, without its path."""


def _fields(data: Any, where: str, fields: dict[str, tuple[str, Callable[[Any], bool]]]) -> None:
    if not isinstance(data, dict):
        raise _Wrong(f"{where.rstrip('.')} is not an object")
    for name, (what, holds) in fields.items():
        if name not in data or not holds(data[name]):
            raise _Wrong(f"{where}{name} is not {what}")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e9


def _attack(value: Any) -> bool:
    return isinstance(value, str) and (value in NULLS or parsed_attack(value) is not None)


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(part, kind) for part in value)


def _optional(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _one_of(kinds: Sequence[type]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple(kinds))


_TEXT = ("a text", _one_of([str]))
_COUNT = ("a count", _count)
_OBJECT = ("an object", _one_of([dict]))
_FLAG = ("true or false", _one_of([bool]))
_OBJECTS = ("a list of objects", _list_of(dict))
MANIFEST = {
    "identity": _OBJECT,
    "data": _OBJECT,
    "checkpoints": _OBJECTS,
    "rows": _OBJECTS,
    "notes": ("a list of texts", _list_of(str)),
    "invocations": _OBJECTS,
}
CHECKPOINT = {"name": _TEXT, "sha256": _TEXT}
ROW = {
    "checkpoint": _TEXT,
    "defence": _TEXT,
    "k": ("a count or null", _optional(_count)),
    "n": ("a count or null", _optional(_count)),
    "threat": _TEXT,
    "attack": ("the name of an attack that this version knows", _attack),
    "norm": _TEXT,
    "eps": ("a number", _number),
    "eps_space": _TEXT,
    "step_size": ("a number or null", _optional(_number)),
    "randomised": _FLAG,
    "batch_dependent": _FLAG,
    "examples_planned": _COUNT,
    "draws": _COUNT,
    "units": _OBJECTS,
}
UNIT = {"id": _TEXT, "replicate": _COUNT}
