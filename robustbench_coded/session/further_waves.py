"""What an evaluation is likely to run beside its first attacks, for the forecast: attacks that wait, and
scoring in random batches.

further_units(prepared, rows, waiting, maker, metadata) -> [Unit]
likely_spared(prepared, waiting)                        -> {row}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.partition_choice import depends_on_batch, partition_units
from robustbench_coded.evaluation.planning.plan import UnitMaker, batches_for
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.session.early_stops import fallen
from robustbench_coded.statistics.intervals import TAIL


def further_units(
    prepared: PreparedEvaluation,
    rows: Sequence[AttackCase],
    waiting: Sequence[AttackCase],
    maker: UnitMaker,
    metadata: Mapping[str, Mapping[str, Any]],
) -> list[Unit]:
    """Units of later waves; none once the first is done. What checks ask for is left out.

    Args:
        rows: those that run first.
        metadata: of the units that are committed, by id.
    """
    if all(unit.id in metadata for row in rows for unit in maker.units(row)):
        return []
    spared = likely_spared(prepared, waiting)
    units = [unit for row in waiting if row not in spared for unit in maker.units(row)]
    return [unit for unit in [*units, *_in_random_batches(prepared, rows, maker)] if unit.id not in metadata]


def likely_spared(prepared: PreparedEvaluation, waiting: Sequence[AttackCase]) -> set[AttackCase]:
    """The waiting rows that will not run, if what breaks standard inference breaks its defences."""
    lost = fallen(prepared, waiting)
    return {row for row in waiting if (row.subject.checkpoint, row.budget) in lost}


def _in_random_batches(
    prepared: PreparedEvaluation, rows: Sequence[AttackCase], maker: UnitMaker
) -> Iterator[Unit]:
    """Of defences that are likely to keep nothing, in batches too few to show it."""
    lost, examples = fallen(prepared, rows), prepared.setup.examples
    met = set()
    for row in rows:
        lane = (row.subject, row.budget, row.threat.inputs)
        if lane in met or row.attack in CONTROLS or row.threat.inputs not in ("batch", "victim"):
            continue
        if not row.subject.batch_dependent or (row.subject.checkpoint, row.budget) not in lost:
            continue
        batches = len(batches_for(maker.config, row.subject, examples, 0))
        # The upper end of nothing in so many batches.
        if depends_on_batch(row) or 1 - TAIL ** (1 / batches) <= maker.config.margin / 100:
            continue
        met.add(lane)
        yield from partition_units(row, maker, examples)
