"""What was recognised, in words: for the report, and for ``csrobust inspect``."""

from typing import Any

from robustbench_coded.models.candidates import Evidence
from robustbench_coded.models.comparison import MARGIN, PGD_STEPS, differ
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.recognition import Recognition


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


def sentence(recognition: Recognition) -> str:
    """What the network was recognised as and by which evidence, in one line."""
    chosen = recognition.chosen
    said = f"{_taken_as(recognition)}: {_witnesses(recognition)}{_beside(recognition)}"
    alike = [one for one in recognition.others if chosen.fingerprint and chosen.same_as(one)]
    rivals = [one for one in recognition.others if not chosen.same_as(one)]
    if rivals and rivals[0].fingerprint is not None:
        said += f"; next best {rivals[0].candidate}: {rivals[0].fingerprint.median:.2g}"
    elif rivals and rivals[0].labelled is not None:
        said += f"; next best {rivals[0].candidate}: cross-entropy {rivals[0].labelled.cross_entropy:.3f}"
    if alike:
        named = ", ".join(f"{one.candidate}{_agreement(chosen, one)}" for one in alike)
        said += f"; not separable from {named}; --arch takes one of these instead"
    if recognition.unseen:
        said += f"; no witness saw {', '.join(recognition.unseen)}: taken as usual"
    return said


def brief(recognition: Recognition) -> str:
    """The same in at most three lines of a terminal: `csrobust inspect` has the rest."""
    chosen, witnesses = recognition.chosen, []
    if chosen.labelled is not None:
        witnesses.append(f"{chosen.labelled.accuracy:.1%} of {chosen.labelled.examples} images right")
    if chosen.fingerprint is not None:
        layers, apart = len(chosen.fingerprint.layers), chosen.fingerprint.median
        witnesses.append(f"{layers} batch-norms {apart:.2g} from their stored statistics")
    return f"{_taken_as(recognition)}: {', '.join(witnesses) or 'no witness'}{_beside(recognition)}"


def _beside(recognition: Recognition) -> str:
    """Other forms that may be right, where it does not matter which is; else nothing."""
    forms = {one.form.candidate: one.form for one in recognition.attacked}
    others = [one for candidate, one in forms.items() if candidate != recognition.chosen.candidate]
    if not others or differ(recognition.attacked):
        return ""
    named = ", ".join(
        f"{one.candidate.normalisation.described} ({one.labelled.accuracy:.1%})"
        for one in others
        if one.labelled
    )
    return f"; may also be {named}: under PGD-{PGD_STEPS} all are within {100 * MARGIN:.0f} points"


def _taken_as(recognition: Recognition) -> str:
    stated, taken = recognition.stated, recognition.chosen.candidate
    verb = "recognised as" if stated.arch is None else "taken as"
    return f"{verb} {taken} ({stated.source})"


def _agreement(chosen: Evidence, other: Evidence) -> str:
    """How many images two candidates answer alike, in brackets; empty where one was not asked."""
    if chosen.labelled is None or other.labelled is None:
        return ""
    alike = chosen.labelled.agreement(other.labelled)
    return " (the same answers)" if alike == 1 else f" ({alike:.1%} of the answers alike)"


def _witnesses(recognition: Recognition) -> str:
    chosen, said = recognition.chosen, []
    if chosen.fingerprint is not None:
        found = chosen.fingerprint
        said.append(
            f"{len(found.layers)} batch-norms are {found.median:.2g} (median) from their stored statistics "
            f"on {found.images} images ({chosen.kind}), at most {found.largest:.2g}"
        )
    else:
        said.append("no batch-norm has informative statistics")
    if chosen.labelled is not None:
        right = chosen.labelled
        said.append(
            f"{right.accuracy:.2%} of {right.examples} labelled images right, cross-entropy "
            f"{right.cross_entropy:.3f} at temperature {right.temperature:.2f}"
        )
    if recognition.stated.accuracy is not None:
        name, value = recognition.stated.accuracy
        said.append(f"the file says {name} {value:.2%}")
    return ", ".join(said)


def as_data(recognition: Recognition) -> dict[str, Any]:
    """Everything that the decision was made by."""
    stated = recognition.stated
    return {
        "sentence": sentence(recognition),
        "architecture": recognition.arch,
        "chosen": _evidence(recognition.chosen),
        "others": [_evidence(one) for one in recognition.others],
        "unseen_parts": list(recognition.unseen),
        "stated": {
            "architecture": stated.arch,
            "normalisation": None if stated.normalisation is None else stated.normalisation.name,
            "accuracy": None if stated.accuracy is None else dict([stated.accuracy]),
        },
        "attacked": [
            {
                "architecture": one.form.candidate.arch,
                "normalisation": one.form.candidate.normalisation.name,
                "norm": one.budget.norm,
                "eps": one.budget.eps,
                "accuracy": one.accuracy,
                "images": one.images,
            }
            for one in recognition.attacked
        ],
        "contradictions": list(recognition.warnings),
        "refusal": recognition.refusal,
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    data: dict[str, Any] = {
        "architecture": one.candidate.arch,
        "normalisation": one.candidate.normalisation.name,
    }
    if one.fingerprint is not None:
        data["batch_norms"] = {
            "median": one.fingerprint.median,
            "largest": one.fingerprint.largest,
            "score": one.fingerprint.score,
            "layers": len(one.fingerprint.layers),
            "images": one.fingerprint.images,
            "inputs": one.kind,
        }
    if one.labelled is not None:
        data["labelled"] = {
            "examples": one.labelled.examples,
            "accuracy": one.labelled.accuracy,
            "cross_entropy": one.labelled.cross_entropy,
            "temperature": one.labelled.temperature,
        }
    return data
