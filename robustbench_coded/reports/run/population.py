"""What the intervals of a run are about: which images, and in which company."""

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
            f"the intervals speak about all {data.available} examples of {data.name}, of which these are a "
            "random part of every class, and about images drawn as those were."
        )
    if data.examples == data.available:
        return f"the intervals speak about images drawn as these {data.examples} were."
    return (
        f"the intervals speak about images drawn as the first {data.examples} of {data.name} were; about the "
        f"other {(data.available or 0) - (data.examples or 0)} only if their order is a random one."
    )


def partitions_of(run: Run) -> Iterator[str]:
    """A sentence for each attack whose perturbed inputs were scored in random partitions of the examples."""
    for row in run.results:
        if row.partitions is None or row.partitions.own is None or row.key.attack in COMBINED:
            continue
        own = row.partitions.own
        batches = sum(len(np.unique(column)) for column in own.batch.T)
        subject = subject_text(row.key.subject, with_k=True)
        yield (
            f"the perturbed inputs of {row.key.attack} on {subject} were also scored in "
            f"{own.correct.shape[1]} random partitions into batches ({batches} batches in all, one draw "
            "each). The interval of this attack and the upper end of an ensemble that contains it use "
            "these; if none is right, this assumes that no rare kind of example decides the answers of its "
            "whole batch."
        )
