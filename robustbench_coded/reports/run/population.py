"""What the intervals of a run are about: which images, and in which batches."""

from collections.abc import Iterator

import numpy as np

from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import COMBINED
from robustbench_coded.schema.manifest import RunManifest


def population_of(manifest: RunManifest) -> str:
    """What the intervals of a run are about, in one sentence."""
    data = manifest.data
    if manifest.identity.subset is not None:
        return (
            f"the intervals apply to all {data.available} examples of {data.name}, of which these are a "
            "random part of every class, and to images drawn as those were."
        )
    if data.examples == data.available:
        return f"the intervals apply to images drawn in the same way as these {data.examples}."
    return (
        f"the intervals apply to images drawn in the same way as the first {data.examples} of {data.name}, "
        f"and to the other {(data.available or 0) - (data.examples or 0)} only if their order is random."
    )


def partitions_of(run: Run) -> Iterator[str]:
    """What was scored in other batches than it was attacked in: whole batches, then victims."""
    rows = [row for row in run.results if row.partitions is not None and row.key.attack not in COMBINED]
    batches, victims = [], []
    for row in rows:
        assert row.partitions is not None
        case = f"{row.key.attack} on {subject_text(row.key.subject, with_k=True)}"
        if row.partitions.own is not None:
            scored = row.partitions.own.batch
            batches.append(f"{case} ({sum(len(np.unique(column)) for column in scored.T)} batches)")
        for one in row.partitions.playable:
            victims.append(f"{case} ({int(one.correct.sum())} of {len(one.example)} right)")
    if batches:
        yield (
            "the perturbed inputs of these attacks were also scored in random partitions into batches, "
            f"one draw each: {'; '.join(batches)}. The intervals of these attacks and the upper "
            "ends of ensembles that contain them use this; if none is right, it assumes that no rare "
            "kind of example decides the answers of its whole batch."
        )
    if victims:
        yield (
            "these attacks on one victim were also scored on other examples, each as the only perturbed "
            f"input of a random batch, in one draw: {'; '.join(victims)}. If at most 3% are right, the upper "
            "ends use this; it assumes that no rare kind of example decides the answers to the victims in "
            "its batch."
        )
