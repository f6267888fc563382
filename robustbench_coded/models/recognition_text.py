"""A recognition in words, and as plain data for run.json and ``csrobust inspect --json``."""

from typing import Any

from robustbench_coded.models.decision import Evidence
from robustbench_coded.models.recognition import Recognition


def sentence(recognition: Recognition) -> str:
    """What the network was recognised as and by which evidence, in one line."""
    chosen, source = recognition.chosen, recognition.stated.source
    said = f"recognised as {chosen.candidate} (normalisation {source}): {_witnesses(recognition)}"
    rivals = [one for one in recognition.others if not chosen.same_as(one)]
    if rivals and rivals[0].fingerprint is not None:
        said += f"; next best {rivals[0].candidate}: {rivals[0].fingerprint.median:.2g}"
    elif rivals and rivals[0].labelled is not None:
        said += f"; next best {rivals[0].candidate}: cross-entropy {rivals[0].labelled.cross_entropy:.3f}"
    alike = [f"{one.candidate}{_agreement(chosen, one)}" for one in recognition.others if chosen.same_as(one)]
    if alike and chosen.fingerprint is not None:
        said += f"; not separable from {', '.join(alike)}; --arch takes one of these instead"
    if chosen.fingerprint is None:
        said += _equally_well(recognition)
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
    found = ", ".join(witnesses) or "no witness"
    said = f"recognised as {chosen.candidate} ({recognition.stated.source}): {found}"
    alike = [one for one in recognition.others if chosen.same_as(one)]
    shares = [
        chosen.labelled.agreement(one.labelled) if chosen.labelled and one.labelled else 0.0 for one in alike
    ]
    least = min(shares, default=1.0)
    if least == 1:  # whichever it is, its answers are the same
        return said
    forms = "another form" if len(alike) == 1 else f"{len(alike)} other forms"
    answers = f", {least:.1%} of answers alike" if least else ""
    return f"{said}; {forms} may be right{answers} (see `csrobust inspect --data`)"


def _agreement(chosen: Evidence, other: Evidence) -> str:
    """How many images two candidates answer alike, in brackets; empty where one was not asked."""
    if chosen.labelled is None or other.labelled is None:
        return ""
    alike = chosen.labelled.agreement(other.labelled)
    return " (the same answers)" if alike == 1 else f" ({alike:.1%} of the answers alike)"


def _equally_well(recognition: Recognition) -> str:
    """That labels alone do not tell normalisations apart; empty where they do."""
    chosen = recognition.chosen
    own = chosen.labelled
    asked = [one for one in recognition.others if one.labelled is not None]
    if own is None or not asked:
        return ""
    better = [one for one in asked if chosen.worse_than(one)]
    if better:
        best = max(better, key=lambda one: own.worse_than(one.labelled) if one.labelled else 0.0)
        assert best.labelled is not None
        return (
            f"; {best.candidate} explains the labels better by {own.worse_than(best.labelled):.1f} "
            "standard errors and may be right"
        )
    alike = [one for one in asked if chosen.same_as(one)]
    if not alike:
        return ""
    apart = max(abs(one.labelled.accuracy - own.accuracy) for one in alike if one.labelled is not None)
    said = "both" if len(alike) == 1 else "all of"
    return (
        f"; {said} {chosen.candidate} and {', '.join(str(one.candidate) for one in alike)} explain the data "
        f"equally well, accuracy differs by {100 * apart:.2f} points at most; --normalize says which is right"
    )


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
        "contradictions": list(recognition.contradictions),
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
            "alike": list(one.alike),
        }
    if one.labelled is not None:
        data["labelled"] = {
            "examples": one.labelled.examples,
            "accuracy": one.labelled.accuracy,
            "cross_entropy": one.labelled.cross_entropy,
            "temperature": one.labelled.temperature,
        }
    return data
