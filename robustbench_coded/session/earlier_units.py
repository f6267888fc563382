"""Units that an earlier version committed do not say how many of their answers were right: it is counted."""

from pathlib import Path
from typing import Any

from robustbench_coded.runs.folder import read_run


def with_counts(path: Path, metadata: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metadata of committed units, with right answers and answers by purpose where they lack these.

    Args:
        path: the run folder.
        metadata: by unit.
    """
    return {
        unit: said if any(name.startswith("answers_") for name in said) else {**said, **_counted(path, unit)}
        for unit, said in metadata.items()
    }


def _counted(path: Path, unit: str) -> dict[str, int]:
    rows = read_run(path, [unit])[0]
    counts: dict[str, int] = {}
    for purpose in rows.purpose.astype(str).unique() if len(rows) else ():
        of = rows[rows.purpose == purpose]
        counts[f"answers_{purpose}"] = len(of)
        counts[f"right_{purpose}"] = int((of.prediction == of.label).sum())
    return counts
