"""What `csrobust inspect` prints about a checkpoint."""

from typing import Any

from robustbench_coded.models.checkpoint import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.recognition import Recognition
from robustbench_coded.models.recognition_text import as_data


def describe(checkpoint: Checkpoint, recognition: Recognition | None = None) -> dict[str, Any]:
    """Plain data, fit for JSON: what the file is, what was recognised in it, and what had to be guessed.

    Args:
        checkpoint: as loaded.
        recognition: what images said about it; None where none were looked at.
    """
    normalisation = checkpoint.normalisation
    if recognition is not None:
        normalisation = recognition.chosen.candidate.normalisation
    facts = _facts(checkpoint, normalisation)
    if recognition is None:
        return facts | {"notes": [*facts["notes"], *_guesses(checkpoint)]}
    return facts | {
        "architecture": recognition.arch,
        "notes": [
            *facts["notes"],
            as_data(recognition)["sentence"],
            *(
                f"{'not evaluated' if reason == recognition.refusal else 'warning'}: {reason}"
                for reason in recognition.doubts
            ),
        ],
        "recognition": as_data(recognition),
    }


def _facts(checkpoint: Checkpoint, normalisation: Normalisation | None) -> dict[str, Any]:
    layout = checkpoint.layout
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
        "notes": [*checkpoint.notes],
    }


def _guesses(checkpoint: Checkpoint) -> list[str]:
    if checkpoint.normalisation is not None:
        return []
    return [
        "no normalisation is stored; unless --normalize says one, an evaluation chooses among the known "
        "ones by the stored statistics of batch-norms and by labelled images; --data settles it here"
    ]
