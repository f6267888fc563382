"""What one forward of a unit holds: batches that are attacked and answered side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import Batch, scored_slots
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.runs.adversarials import EVERY


@dataclass(frozen=True)
class Group:
    """Equally large batches, and which of their slots are scored.

    Attributes:
        batches: G batches; with one victim in each, a batch may appear several times.
        scored: slots of each batch whose answers count.
        victims: the attacked slot of each batch; empty where several inputs are the attacker's.
    """

    batches: tuple[Batch, ...]
    scored: tuple[np.ndarray, ...]
    victims: tuple[int, ...] = ()

    @property
    def indices(self) -> list[int]:
        """The batches' positions in the partition, which name their random streams."""
        return [batch.index for batch in self.batches]

    @property
    def k(self) -> int:
        return self.batches[0].k

    @property
    def stored_victims(self) -> list[int]:
        """What stored perturbed inputs say about who was attacked."""
        return list(self.victims) or [EVERY] * len(self.batches)


def groups_of(context: WorkerContext, unit: Unit) -> Iterator[Group]:
    """The groups of a unit, in their order."""
    case, seed = unit.row, context.setup.config.seed + unit.replicate
    batches = context.batches(case.subject, unit.replicate)
    for indices in unit.groups:
        members = tuple(batches[i] for i in indices)
        slots = (np.asarray(scored_slots(case.threat, batch, seed), dtype=np.int64) for batch in members)
        yield Group(members, tuple(slots))
    yield from groups_of_victims(context, unit, context.setup.group_images // case.subject.images)


def groups_of_victims(context: WorkerContext, unit: Unit, most: int) -> Iterator[Group]:
    """A unit's victims in their order, at most so many in a group; equally large batches alone share one."""
    batches = context.batches(unit.row.subject, unit.replicate)
    size = max(1, most)
    for _, alike in groupby(unit.victims, key=lambda victim: batches[victim.batch].k):
        together = list(alike)
        for start in range(0, len(together), size):
            victims = together[start : start + size]
            yield Group(
                tuple(batches[victim.batch] for victim in victims),
                tuple(np.asarray([victim.slot]) for victim in victims),
                tuple(victim.slot for victim in victims),
            )
