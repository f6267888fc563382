"""What the intervals of a run are about: which images, and in which batches."""

from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import COMBINED
from robustbench_coded.schema.manifest import RunManifest


def population_of(manifest: RunManifest) -> str:
    """What the intervals of a run are about, in one sentence."""
    data = manifest.data
    if data.examples == data.available:
        return f"the intervals apply to images drawn in the same way as these {data.examples}."
    if manifest.identity.subset is not None:
        return (
            f"the intervals apply to all {data.available} examples of {data.name}, of which these are a "
            "random part of every class, and to images drawn as those were."
        )
    return (
        f"the intervals apply to images drawn in the same way as the first {data.examples} of {data.name}, "
        f"and to the other {(data.available or 0) - (data.examples or 0)} only if their order is random."
    )


def scored_again(run: Run) -> str:
    """What was scored in random batches, too; empty where nothing was."""
    scored = [
        f"{row.key.attack} on {subject_text(row.key.subject, with_k=True)} ({row.random_batches[0].batches})"
        for row in run.results
        if row.random_batches and row.key.attack not in COMBINED
    ]
    if not scored:
        return ""
    return (
        "the perturbed inputs of these attacks were also scored in random batches of these images, in one "
        f"draw each: {'; '.join(scored)}. Their intervals, and the upper ends of ensembles that contain "
        "them, are about these images in random batches; those for other images stand beside them."
    )
