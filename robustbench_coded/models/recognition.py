"""Recognition of a checkpoint's network: its architecture among those with its weights, its normalisation.

Names and shapes of the weights decide the architecture where a published definition has them. The user's
statement, the file's metadata or what batch-norms remember decide the normalisation. Batch-norms and labelled
images have to confirm all of it; else the user is asked. What is stated is evaluated as it is stated, with
warnings of what speaks against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.accelerator import random_states_kept
from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import stored_normalisation
from robustbench_coded.models.candidates import (
    BatchNormEvidence,
    Candidate,
    Labelled,
    Trials,
    nearest,
    networks_of,
    trained_batch_norms,
    unknown_parts,
)
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Source, normalisations_of
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER
from robustbench_coded.threads import few_threads, subnormals_flushed

IMAGES = 2048  # that are looked at, at most

# Scores of batch-norms (docs/your-checkpoint.md has those of right and wrong networks). The same network is
# no farther than SAME from what its batch-norms remember; candidates that are not so many times farther than
# the nearest are not told apart; what is stated is contradicted by more.
SAME, TIE, CONTRADICTED = 0.003, 1.5, 3.0
UNFAMILIAR = 0.015  # so far, as a median over the layers, they are not those of a stated network
# Labels contradict where another normalisation is more accurate by more than an adversarially trained network
# gains behind a wrong one.
FAR_BELOW = 0.05
# The fewest images on which many candidates answer, and multiplications for those beside what is decided on.
FEWEST, BESIDE_MULTIPLICATIONS = 16, 20e9

BY_METADATA = "its metadata"  # decide an architecture

LINES = 3  # of a question
NONE_OF_THESE = "  if none of these is your network, pass --arch file.py:build"


@dataclass(frozen=True)
class Recognition:
    """The decision on one checkpoint, and its evidence.

    Attributes:
        candidate: what is evaluated, or what comes closest where there is a refusal.
        by: what decided the architecture, and what its normalisation; the second is ``given`` by the user,
            ``stored`` in the file, ``recognised`` by batch-norms, or ``guessed`` with the option ``guess``.
            Where the first is ``--guess``, nobody knows whether the network is right.
        labelled: the candidate on labelled images; None where there are no labels.
        batch_norms: its batch-norms; None where none remembers anything.
        warnings: what speaks against it, a clause each.
        refusal: why it is not evaluated, in one line; empty where it is.
        question: lines to choose from, with the options to copy; empty if there is no question, or the answer
            was guessed.
    """

    candidate: Candidate
    by: tuple[str, Source]
    labelled: Labelled | None
    batch_norms: BatchNormEvidence | None
    warnings: tuple[str, ...]
    refusal: str
    question: tuple[str, ...] = ()

    def refused(self, checkpoint: Checkpoint) -> InputError:
        """The refusal as an error, with the lines of its question."""
        return InputError(f"{checkpoint.path}: {self.refusal}", self.question)

    @property
    def sentence(self) -> str:
        """The recognised network and the evidence, in one line."""
        reading = f"taken as {self.candidate} (architecture by {self.by[0]}, normalisation {self.by[1]})"
        evidence = []
        if self.batch_norms is not None:
            seen = self.batch_norms
            evidence.append(
                f"{len(seen.layers)} batch-norms are {seen.median:.2g} (median) from their stored statistics "
                f"on {seen.images} images ({seen.kind})"
            )
        if self.labelled is not None:
            evidence.append(f"{self.labelled.accuracy:.1%} of {len(self.labelled.rightly)} images right")
        return f"{reading}: {', '.join(evidence) or 'there are no labelled images'}"

    def as_data(self) -> dict[str, Any]:
        """The decision as stored in run.json."""
        decided = {"by": list(self.by), "contradictions": list(self.warnings), "refusal": self.refusal}
        return {"sentence": self.sentence, **decided}


@subnormals_flushed()
def recognise_network(
    checkpoint: Checkpoint,
    images: Tensor,
    labels: Tensor | None,
    *,
    device: torch.device | None = None,
    guess: bool = False,
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these at
            most IMAGES are looked at.
        labels: [n] int64 in [0, classes); None where there are none.
        device: where networks answer.
        guess: take the first candidate of a question.
    """
    images = images[:IMAGES]
    labels = None if labels is None else labels[: len(images)].cpu()
    # Networks that sample take the same draws each time, without touching the global generator.
    with random_states_kept():
        torch.manual_seed(0)
        trials = Trials(checkpoint, images, labels, torch.device("cpu") if device is None else device)
        with few_threads(trials.cost):
            return _as_stated(trials) or _decided(trials, guess=guess)


def _as_stated(trials: Trials) -> Recognition | None:
    """What the file's metadata say, where it answers as many images rightly as they say; else None."""
    checkpoint, stated = trials.checkpoint, trials.checkpoint.metadata.get("accuracy")
    sources = checkpoint.arch_source, checkpoint.normalisation_source
    if sources != ("stored", "stored") or trials.labels is None or not isinstance(stated, float):
        return None
    assert checkpoint.normalisation is not None
    candidate = Candidate(checkpoint.arch, checkpoint.normalisation)
    (own,) = trials.labelled([candidate])
    if own.accuracy + own.error < stated or own.at_chance(checkpoint.classes):
        return None
    return Recognition(candidate, (BY_METADATA, "stored"), own, None, (), "")


def _decided(trials: Trials, *, guess: bool) -> Recognition:
    checkpoint, given = trials.checkpoint, trials.checkpoint.normalisation
    mean, std = trials.images.mean((0, 2, 3)).tolist(), trials.images.std((0, 2, 3)).tolist()
    stored = stored_normalisation(checkpoint.metadata, checkpoint.channels)
    known = normalisations_of(mean, std, given, stored)
    architectures = [checkpoint.arch] if checkpoint.arch_source != "guessed" else networks_of(checkpoint)
    candidates = [Candidate(arch, one) for arch in architectures for one in ([given] if given else known)]
    others = [Candidate(architectures[0], one) for one in known if one != given]
    fits: list[BatchNormEvidence] = []
    if trained_batch_norms(checkpoint.network):
        fits = nearest(trials, list(dict.fromkeys([*candidates, *others])), candidates if given else ())
    allowed = [fit for fit in fits if fit.candidate in candidates]
    why, against = _unknown(checkpoint), list[str]()
    if allowed:
        candidates = list(dict.fromkeys([*(fit.candidate for fit in allowed), *candidates]))
        why, against = _by_batch_norms(trials, fits, allowed)
    chosen = candidates[0]
    labelled = next(iter(trials.labelled([chosen])), None)
    better = _better(trials, labelled, others)
    settled = given is not None and checkpoint.arch_source != "guessed"
    if labelled and not why and not labelled.at_chance(checkpoint.classes):
        contradiction = _contradicted(labelled, better)
        why = "" if settled else contradiction
        against += [contradiction] if settled and contradiction else []
    # A question helps nobody whose only line says what is stated, and the network of these weights.
    alone = len(candidates) == 1 and checkpoint.normalisation_source == "given"
    if why and not settled and alone and not unknown_parts(checkpoint):
        why, settled = f"{why}; if it is another network, pass --arch file.py:build", True
    if why and settled:
        against, why = [why, *against], ""
    refusal, question = "", tuple[str, ...]()
    if why:
        refusal, question, chosen, labelled = _question(trials, why, candidates, allowed)
    if labelled and labelled.at_chance(checkpoint.classes) and (not why or guess):
        refusal, question = _by_chance(checkpoint, labelled, better), ()
    origins = {"given": "--arch", "stored": BY_METADATA, "guessed": "names and shapes"}
    architecture = origins[checkpoint.arch_source]
    if question and guess:
        architecture, refusal, question = "--guess", "", ()
    recognised = given is None and allowed and not why
    return Recognition(
        chosen,
        (architecture, "recognised" if recognised else checkpoint.normalisation_source),
        labelled,
        next((fit for fit in allowed if fit.candidate == chosen), None),
        tuple(against),
        refusal,
        question,
    )


def _unknown(checkpoint: Checkpoint) -> str:
    """What nothing in the file says, a clause; empty where all is stated or published."""
    unknown = unknown_parts(checkpoint) if checkpoint.arch_source == "guessed" else []
    unknown += [] if checkpoint.normalisation else ["normalisation"]
    hint = f" (its pickle holds torch.nn.{checkpoint.activation})" if checkpoint.activation else ""
    return f"neither its weights nor its file say its {' and '.join(unknown)}{hint}" if unknown else ""


def _by_batch_norms(
    trials: Trials, fits: Sequence[BatchNormEvidence], allowed: Sequence[BatchNormEvidence]
) -> tuple[str, list[str]]:
    """Why batch-norms do not settle the nearest of ``allowed``, a clause, empty where they do; and warnings.

    Args:
        fits: of all candidates, the nearest first.
        allowed: of those that agree with what is stated.
    """
    checkpoint, best, nearer = trials.checkpoint, allowed[0], fits[0]
    against = []
    if nearer is not best and best.score > CONTRADICTED * nearer.score:
        against.append(
            f"its batch-norms contradict {best.candidate}, which is stated: activations differ from the "
            f"statistics they store by {best.median:.2g}, as {nearer.candidate} by "
            f"{nearer.median:.2g}; try {nearer.candidate.flags}"
        )
    settled = checkpoint.normalisation is not None and checkpoint.arch_source != "guessed"
    draws = getattr(checkpoint.network, "samples", False)
    # Images that fit a nearer one are familiar.
    if (best.median > UNFAMILIAR and not against if settled else best.score > SAME) and not draws:
        return (
            f"its batch-norms do not fit these images: as {best.candidate} activations differ from the "
            f"stored statistics by {best.median:.2g} (median), first at {best.departs_at(UNFAMILIAR)}; a "
            "part before it, or the images, differ from training"
        ), against
    if not settled and len(allowed) > 1 and allowed[1].score <= TIE * best.score:
        return "its batch-norms fit several of the networks that it may be", against
    return "", against


def _better(trials: Trials, own: Labelled | None, others: Sequence[Candidate]) -> list[Labelled]:
    """The same network behind normalisations with which it is more accurate by three standard errors, the
    best first; empty where that takes long."""
    if own is None:
        return []
    beside = [replace(own.candidate, normalisation=other.normalisation) for other in others]
    beside = [one for one in beside if one != own.candidate]
    if trials.affordable((0, FEWEST), BESIDE_MULTIPLICATIONS, len(beside)) < FEWEST:
        return []
    return [row for row in _ranked(trials.labelled(beside, FEWEST)) if own.beaten_by(row)]


def _contradicted(own: Labelled, better: Sequence[Labelled]) -> str:
    """Why labelled images do not confirm a candidate, a clause; empty where they do."""
    # Behind a wrong normalisation an adversarially trained network gains a little.
    best = next((row for row in better if row.accuracy > own.accuracy + FAR_BELOW), None)
    if best is None:
        return ""
    return (
        f"its labelled images contradict {own.candidate}: {best.candidate} answers {best.accuracy:.1%} "
        f"of {len(best.rightly)} rightly instead of {own.accuracy:.1%}; try {best.candidate.flags}"
    )


def _question(
    trials: Trials, why: str, candidates: Sequence[Candidate], fits: Sequence[BatchNormEvidence]
) -> tuple[str, tuple[str, ...], Candidate, Labelled | None]:
    """The question in one line, the lines to choose from, and the first candidate of these with its labels.

    Args:
        why: what is not known, a clause.
        candidates: the nearest by batch-norms first; without these the most accurate ones are shown.
        fits: of the first of them.
    """
    shown = list(candidates)
    if not fits:
        shown = [row.candidate for row in _ranked(trials.labelled(shown, FEWEST))] or shown
    rows = trials.labelled(shown[:LINES])
    shown = [row.candidate for row in _ranked(rows)] if rows and not fits else shown[:LINES]
    figures = {one: list[str]() for one in shown}
    for row in rows:
        figures[row.candidate].append(f"{row.accuracy:.1%} of {len(row.rightly)}")
    for fit in fits[:LINES]:
        figures[fit.candidate].append(f"{fit.score:.2g}")
    named = ["right answers of labelled images"] if rows else []
    named += ["distance of its batch-norms from their statistics"] if fits else []
    of_what = f" ({', '.join(named)})" if named else ""
    if rows and all(row.at_chance(trials.checkpoint.classes) for row in rows):
        why += "; even the best of these lines answers as by chance, so the images may not be its own"
    heading = (
        f"{why}. State the network as it was trained, as in one of these lines{of_what}: an adversarially "
        "trained network may answer more rightly behind a wrong normalisation, so labels do not choose; "
        "`csrobust eval --guess` takes the first line"
    )
    behind = {one: f"  ({', '.join(said)})" if said else "" for one, said in figures.items()}
    lines = (*(f"  {one.flags}{behind[one]}" for one in shown), NONE_OF_THESE)
    return heading, lines, shown[0], next((row for row in rows if row.candidate == shown[0]), None)


def _ranked(rows: Sequence[Labelled]) -> list[Labelled]:
    """The most accurate first, of equal ones the most usual."""
    return sorted(rows, key=lambda row: -row.accuracy)


def _by_chance(checkpoint: Checkpoint, labelled: Labelled, better: Sequence[Labelled]) -> str:
    """Why a network is refused that answers as by chance, and what to try."""
    mend = "try another --arch, --normalize or --data"
    for best in [row for row in better if not row.at_chance(checkpoint.classes)][:1]:
        mend = f"behind another normalisation {best.accuracy:.1%} are: {best.candidate.flags}"
    notes = [note.rpartition("; ")[2] for note in checkpoint.notes if EVALUATES_ANOTHER in note]
    message = (
        f"{labelled.accuracy:.1%} of {len(labelled.rightly)} labelled images are right, and chance is "
        f"{1 / checkpoint.classes:.1%}: it is not trained, its labels are others, or a part without weights "
        "is wrong"
    )
    return "; ".join([message, *notes, mend])
