"""What `csrobust inspect` prints about a checkpoint."""

from typing import Any

from robustbench_coded.models.loading import Checkpoint


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Plain data, fit for JSON: what the file is, what was recognised in it, and what had to be guessed."""
    layout, normalisation = checkpoint.layout, checkpoint.normalisation
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "bytes": layout.nbytes,
        "format": layout.format,
        "architecture": checkpoint.arch,
        "classes": checkpoint.classes,
        "channels": checkpoint.channels,
        "image_size": checkpoint.image_size,
        "parameters": sum(parameter.numel() for parameter in checkpoint.network.parameters()),
        "dtypes": layout.dtypes,
        "nesting": list(layout.nesting),
        "prefixes_stripped": list(layout.prefixes),
        "unused_weights": list(layout.dropped),
        "normalisation": None
        if normalisation is None
        else {"name": normalisation.name, "mean": list(normalisation.mean), "std": list(normalisation.std)},
        "normalisation_source": checkpoint.normalisation_source,
        "metadata": checkpoint.metadata,
        "other_entries": layout.entries,
        "notes": [*checkpoint.notes, *_guesses(checkpoint)],
    }


def _guesses(checkpoint: Checkpoint) -> list[str]:
    if checkpoint.normalisation is not None:
        return []
    return [
        "no normalisation is stored; unless --normalize says one, an evaluation chooses among the known ones "
        "by mean cross-entropy on the first 512 labelled images"
    ]
