"""What became of units that a reader of the report should know."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.plan import Plan


def remarks_on(plan: Plan, metadata: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each row with units whose forwards had to be smaller than planned, or failed inputs.

    Args:
        metadata: of the committed units, by id.
    """
    smaller = Counter(
        (unit.row, metadata[unit.id]["group_images"])
        for unit in plan.units
        if "group_images" in metadata.get(unit.id, {})
    )
    unanswered: Counter[AttackCase] = Counter()
    for unit in plan.units:
        unanswered[unit.row] += metadata.get(unit.id, {}).get("unanswered", 0)
    return [
        f"{row.attack} ({row.threat}) on {row.subject.checkpoint} behind {row.subject.label}: out of memory, "
        f"{count} units were answered in forwards of at most {images} images, and their last digits may "
        "differ from those of a run with more memory."
        for (row, images), count in smaller.items()
    ] + [
        f"{row.subject.label} on {row.subject.checkpoint} failed at perturbed inputs: {count} of its answers "
        f"to {row.attack} ({row.threat}) were exceptions, NaN or infinite; they count as wrong."
        for row, count in unanswered.items()
        if count
    ]
