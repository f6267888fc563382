"""What became of units that a reader of the report should know."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.schema.controls import CLEAN


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
    relaxed: Counter[AttackCase] = Counter()
    first: dict[AttackCase, Sequence[int]] = {}  # an example and a draw
    for unit in plan.units:
        found = metadata.get(unit.id, {})
        unanswered[unit.row] += found.get("unanswered", 0)
        relaxed[unit.row] += found.get("without_gradient", 0)
        if "unanswered_at" in found:
            first.setdefault(unit.row, found["unanswered_at"])
    said = [
        f"{row.attack} ({row.threat}) on {row.subject.checkpoint} behind {row.subject.label}: out of memory, "
        f"{count} units were answered in forwards of at most {images} images, and their last digits may "
        "differ from those of a run with more memory."
        for (row, images), count in smaller.items()
    ]
    for row, (example, draw) in first.items():
        asked = "clean inputs" if row.attack == CLEAN else f"{row.attack} ({row.threat})"
        said.append(
            f"{row.subject.label} on {row.subject.checkpoint}: {unanswered[row]} answers to {asked} were "
            f"exceptions, NaN or infinite, the first to image {example} in draw {draw}; they count as wrong."
        )
    return said + [
        f"{row.subject.label} on {row.subject.checkpoint} could not be differentiated at {count} inputs by "
        f"{row.attack} ({row.threat}), which went on there with smooth operators (relaxed-)."
        for row, count in relaxed.items()
        if count
    ]
