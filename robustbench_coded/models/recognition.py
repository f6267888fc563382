"""Recognition of a checkpoint's network: the variant of its architecture and its normalisation.

Names and shapes of the weights decide the architecture, and a published definition of these its activations
and strides. The user's statement, the file's metadata or what batch-norms remember decide the normalisation,
and batch-norms also say where the network was another variant. Labelled images confirm what was decided, or a
warning says that they do not. The user decides what remains open (``candidates.Question``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.accelerator import random_states_kept
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.errors import InputError
from robustbench_coded.models.batch_norms import BatchNormEvidence, Witness, trained_batch_norms
from robustbench_coded.models.candidates import (
    LABELLED_IMAGES,
    Assembly,
    Candidate,
    Labelled,
    Question,
    Stated,
    question,
    with_fewer_activations,
)
from robustbench_coded.models.detect import published_definition
from robustbench_coded.models.external_architectures import normaliser_in
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.metadata import allowed_shortfall, stored_accuracy, stored_normalisation
from robustbench_coded.models.normalisation import KNOWN, Source, normalisations_of
from robustbench_coded.models.registry import INACTIVE
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER
from robustbench_coded.threads import few_threads, subnormals_flushed

IMAGES = 2048  # that are looked at, at most
# With labels, of all candidates beside the one that is decided on, as many as so many multiplications pay
# for: at least as many as that one's fewest, or none.
CONFIRMING_IMAGES, CONFIRMING_MULTIPLICATIONS = (0, 512), 20e9

# Scores of batch-norms (docs/your-checkpoint.md has those of right and wrong networks). What is usual is not
# told from another variant that is less than so many times better; what is stated is contradicted by more.
TIE, CONTRADICTED = 1.5, 3.0
# Farther than this from what they remember, batch-norms recognise nothing; and so far, as a median over the
# layers, they are not those of this network on these images.
RECOGNISED, FAMILIAR = 0.003, 0.015
# Labels contradict where another candidate is more accurate by more than an adversarially trained network
# gains behind a wrong normalisation. A file's own accuracy is confirmed within CONFIRMED.
FAR_BELOW, CONFIRMED = 0.05, 0.02

BY_METADATA = "its metadata"  # decide an architecture

Budget = Callable[[tuple[float, ...]], PerturbationBudget]  # from the deviations of a normalisation


def usual_budget(deviation: tuple[float, ...]) -> PerturbationBudget:
    """8/255 for three channels and 0.3 for one, where nothing says how large perturbations will be."""
    return PerturbationBudget("linf", 8 / 255 if len(deviation) == 3 else 0.3)


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
        accuracy: what the file states, by the entry's name.
        warnings: what speaks against it, a clause each.
        refusal: why it is not evaluated, in one line; empty where it is.
        question: for the user instead; None if there is none, or the answer was guessed.
    """

    candidate: Candidate
    by: tuple[str, Source]
    labelled: Labelled | None
    batch_norms: BatchNormEvidence | None
    accuracy: tuple[str, float] | None
    warnings: tuple[str, ...]
    refusal: str
    question: Question | None

    def refused(self, checkpoint: Checkpoint) -> InputError:
        """The refusal as an error, with the candidates of its question."""
        message = f"{checkpoint.path}: {self.refusal}{checkpoint.hint}"
        return InputError(message, self.question.lines if self.question else ())

    @property
    def sentence(self) -> str:
        """The recognised network and the evidence, in one line."""
        reading = f"taken as {self.candidate} (architecture by {self.by[0]}, normalisation {self.by[1]})"
        evidence = []
        if self.batch_norms is not None:
            seen = self.batch_norms.fingerprint
            evidence.append(
                f"{len(seen.layers)} batch-norms are {seen.median:.2g} (median) from their stored statistics "
                f"on {seen.images} images ({self.batch_norms.kind})"
            )
        if self.labelled is not None:
            evidence.append(f"{self.labelled.accuracy:.1%} of {len(self.labelled.rightly)} images right")
        if self.accuracy is not None:
            evidence.append(f"the file says {self.accuracy[0]} {self.accuracy[1]:.2%}")
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
    budget: Budget = usual_budget,
    device: torch.device | None = None,
    guess: bool = False,
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these at
            most IMAGES are looked at.
        labels: [n] int64 in [0, classes); None where there are none.
        budget: of the attack on the candidates of a question.
        device: where networks answer.
        guess: take the first candidate of a question.
    """
    images = images[:IMAGES]
    labels = None if labels is None else labels[: len(images)].cpu()
    # Networks that sample take the same draws each time, without touching the global generator.
    with random_states_kept():
        torch.manual_seed(0)
        assembly = Assembly(checkpoint, images, labels, torch.device("cpu") if device is None else device)
        with few_threads(assembly.cost):
            return _as_stated(assembly) or _Decision(assembly, budget).made(guess=guess)


def _as_stated(assembly: Assembly) -> Recognition | None:
    """What the file's metadata say, where it answers as many images rightly as they say; else None."""
    checkpoint, stated = assembly.checkpoint, assembly.checkpoint.metadata.get("accuracy")
    sources = checkpoint.arch_source, checkpoint.normalisation_source
    if sources != ("stored", "stored") or assembly.labels is None or not isinstance(stated, float):
        return None
    assert checkpoint.normalisation is not None
    candidate = Candidate(checkpoint.arch, checkpoint.normalisation)
    own = assembly.labelled(candidate)
    if own.accuracy + own.error < stated or own.accuracy - own.error <= 1 / checkpoint.classes:
        return None
    return Recognition(candidate, (BY_METADATA, "stored"), own, None, ("accuracy", stated), (), "", None)


class _Decision:
    """One recognition, step by step."""

    def __init__(self, assembly: Assembly, budget: Budget) -> None:
        self.assembly, self.budget = assembly, budget
        checkpoint = assembly.checkpoint
        self.accuracy = stored_accuracy(checkpoint.metadata) or stored_accuracy(checkpoint.entries)
        arch = checkpoint.arch if checkpoint.arch_source != "guessed" else None
        self.stated = Stated(arch, checkpoint.normalisation)
        mean, std = assembly.images.mean((0, 2, 3)).tolist(), assembly.images.std((0, 2, 3)).tolist()
        stored = stored_normalisation(checkpoint.metadata, checkpoint.channels)
        self.normalisations = normalisations_of(mean, std, checkpoint.normalisation, stored)
        self.definition = published_definition(checkpoint.arch, checkpoint.names)
        origins = {"given": "--arch", "stored": BY_METADATA}
        self.by_arch = origins.get(checkpoint.arch_source, "names and shapes")
        self.by_normalisation: Source = checkpoint.normalisation_source
        self.warnings: list[str] = []
        if self.by_normalisation == "given" and (given := checkpoint.normalisation) is not None:
            inside, stored = normaliser_in(checkpoint.network), checkpoint.layout.normalisation
            stated = f"the stated normalisation ({given.name})"
            if inside and given != KNOWN[checkpoint.channels]["none"]:
                self.warnings.append(f"{stated} comes before the one inside the network ({inside})")
            elif not inside and stored not in (None, given):
                self.warnings.append(f"{stated} replaces the one in its file ({stored})")
        self.batch_norms: BatchNormEvidence | None = None
        self.beside: list[Candidate] = []  # that labels may prefer
        self.open: str = ""  # why nothing was decided, a clause
        self.parts: Sequence[str] = ()  # of the architecture, that are open

    def made(self, *, guess: bool) -> Recognition:
        """The decision."""
        stated = self.stated.normalisation
        has_trained = trained_batch_norms(self.assembly.checkpoint.network)
        candidate, ambiguity = self._by_batch_norms() if has_trained else self._by_definition(), None
        if self.open:
            behind = self.normalisations if stated is None else [stated]
            if stated is not None and stated.name == "none":  # of pixels from 0 to 1, or from 0 to 255?
                behind.append(KNOWN[len(stated.mean)]["bytes"])
            about = self.assembly, self.open, candidate.arch, self.parts, behind
            ambiguity = question(*about, self.budget, self.accuracy)
            candidate = ambiguity.choices[0].candidate if ambiguity.choices else candidate
            self.batch_norms = None
        labelled, refusal = self._confirmed(candidate), "" if ambiguity is None else ambiguity.heading
        if ambiguity is not None and ambiguity.choices and guess:
            self.by_arch, ambiguity, refusal = "--guess", None, ""
        chance = 1 / self.assembly.checkpoint.classes
        if labelled is not None and labelled.accuracy - labelled.error <= chance:
            ambiguity, refusal = None, self._by_chance(labelled, chance)
        by, warnings = (self.by_arch, self.by_normalisation), tuple(self.warnings)
        evidence = labelled, self.batch_norms, self.accuracy
        return Recognition(candidate, by, *evidence, warnings, refusal, ambiguity)

    def _by_chance(self, labelled: Labelled, chance: float) -> str:
        """Why a network is refused that answers as by chance, and what to try."""
        checkpoint, candidate = self.assembly.checkpoint, labelled.candidate
        beside = [replace(candidate, normalisation=other) for other in self.normalisations]
        count = self.assembly.affordable(LABELLED_IMAGES, CONFIRMING_MULTIPLICATIONS, len(beside))
        best = max((self.assembly.labelled(c, count) for c in beside), key=lambda row: row.accuracy)
        mend = "try another --arch, --normalize or --data"
        if best.accuracy - best.error > chance and labelled.beaten_by(best):
            mend = f"behind another normalisation {best.accuracy:.1%} are: {best.candidate.flags}"
        others = [note.rpartition("; ")[2] for note in checkpoint.notes if EVALUATES_ANOTHER in note]
        message = (
            f"{labelled.accuracy:.1%} of {len(labelled.rightly)} labelled images are right, and chance is "
            f"{chance:.1%}: it is not trained, its labels are others, or a part without weights is wrong"
        )
        return "; ".join([message, *others, mend])

    def _by_definition(self) -> Candidate:
        """Without batch-norms: what is stated, and a published definition."""
        stated, arch = self.stated, self.assembly.checkpoint.arch
        if stated.arch is None:
            self.parts = () if self.definition else list(self.assembly.parts)
            self.by_arch = self.definition or self.by_arch
        unknown = [", ".join(part for part in self.parts if part != INACTIVE)] if self.parts else []
        if stated.arch is None and not self.definition and not self.parts:
            unknown = ["output (spiking neurons have such layers without biases)"]
        unknown += [] if stated.normalisation else ["normalisation"]
        if unknown:
            self.open = f"neither its weights nor its file say its {' and '.join(unknown)}"
        chosen = Candidate(arch, stated.normalisation or self.normalisations[0])
        self.beside = [replace(chosen, normalisation=other) for other in self.normalisations]
        self.beside += [replace(chosen, arch=form) for form in self.assembly.one_part_away(arch)]
        if self.definition and not (unknown or stated.arch) and self.assembly.labels is not None:
            usual = self.assembly.labelled(chosen)
            if (form := with_fewer_activations(self.assembly, [usual])) is not None:  # an edited forward
                self.parts = (INACTIVE,)
                self.open = (
                    f"{form.candidate} answers {form.accuracy:.2%} of {len(usual.rightly)} labelled images "
                    f"rightly and {self.definition} {usual.accuracy:.2%}"
                )
        return chosen

    def _by_batch_norms(self) -> Candidate:
        """What comes closest to what batch-norms remember, of what is stated."""
        witness = Witness(self.assembly, self.normalisations, self.stated)
        ranked = witness.nearest()
        allowed = [evidence for evidence in ranked if self.stated.allows(evidence.candidate)]
        tied = [evidence for evidence in allowed if evidence.score <= TIE * allowed[0].score]
        chosen = min(tied, key=lambda evidence: (evidence.candidate.unusual_parts, evidence.score))
        self.batch_norms, seen = chosen, chosen.fingerprint
        if self.stated.arch is None and chosen.candidate.unusual_parts:
            self.by_arch = "batch-norms"
        if self.stated.normalisation is None:
            self.by_normalisation = "recognised"
        nearer = ranked[0]
        if not self.stated.allows(nearer.candidate) and chosen.score > CONTRADICTED * nearer.score:
            self.warnings.append(
                f"its batch-norms contradict {chosen.candidate}, which is stated: activations differ from "
                f"the statistics they store by {seen.median:.2g}, as {nearer.candidate} by "
                f"{nearer.fingerprint.median:.2g}; try {nearer.candidate.flags}"
            )
        is_open = self.stated.normalisation is None
        known = seen.median <= FAMILIAR and not (is_open and seen.score > RECOGNISED)
        if not known and self.accuracy is not None and self.assembly.labels is not None:
            own = self.assembly.labelled(chosen.candidate)
            known = own.accuracy >= self.accuracy[1] - CONFIRMED
        if not known and not self.assembly.samples:
            unfamiliar = (
                f"its batch-norms do not fit these images: as {chosen.candidate} activations differ from the "
                f"stored statistics by {seen.median:.2g} (median), first at {seen.departs_at(FAMILIAR)}; a "
                "part before it, or the images, differ from training"
            )
            self.open = unfamiliar if is_open else ""
            self.warnings += [] if is_open else [unfamiliar]
        elif is_open and any(
            evidence.candidate.normalisation != chosen.candidate.normalisation
            and evidence.candidate.unusual_parts <= chosen.candidate.unusual_parts
            for evidence in tied
        ):
            self.open = "its batch-norms fit several normalisations"
            self.normalisations = list(dict.fromkeys(evidence.candidate.normalisation for evidence in tied))
        if not self.open and self.stated.arch is None and self.definition is None:
            self.parts = witness.unseen(chosen.candidate.arch)
            self.open = f"its batch-norms do not show its {', '.join(self.parts)}" if self.parts else ""
            self.normalisations = [chosen.candidate.normalisation]
        return chosen.candidate

    def _confirmed(self, candidate: Candidate) -> Labelled | None:
        """The candidate on labelled images; what they say against it is among the warnings."""
        if self.assembly.labels is None:
            return None
        own = self.assembly.labelled(candidate)
        beside = [rival for rival in dict.fromkeys(self.beside) if rival != candidate]
        count = self.assembly.affordable(CONFIRMING_IMAGES, CONFIRMING_MULTIPLICATIONS, len(beside))
        seen = [] if self.open or count < LABELLED_IMAGES[0] else beside
        others = sorted((self.assembly.labelled(c, count) for c in seen), key=lambda row: -row.accuracy)
        better = [rival for rival in others if own.beaten_by(rival)]
        name, value = self.accuracy or ("", 0.0)
        if own.accuracy < value - allowed_shortfall(name, value, len(own.rightly)):
            # That the file's figure is missed is the evidence: a form need not be better beyond chance.
            forms = [row for row in others if row.candidate.normalisation == candidate.normalisation]
            nearer = [row for row in forms[:1] if int(row.rightly.sum()) > int(own.rightly[:count].sum())]
            flags = (row.candidate.flags for row in [*better, *nearer])
            mend = next(flags, "another --arch, --normalize or --data")
            self.warnings.append(
                f"{own.accuracy:.1%} of {len(own.rightly)} labelled images are right, its file says {name} "
                f"{value:.2%}: a part without weights is wrong, or that was on other images; try {mend}"
            )
        # Behind a wrong normalisation an adversarially trained network gains, in a wrong form it does not.
        contradicting = [
            rival
            for rival in better
            if rival.candidate.normalisation == candidate.normalisation
            or rival.accuracy > own.accuracy + FAR_BELOW
        ]
        for best in contradicting[:1]:
            self.warnings.append(
                f"its labelled images contradict {candidate}: {best.candidate} answers "
                f"{best.accuracy:.1%} of {len(best.rightly)} rightly instead of {own.accuracy:.1%}; try "
                f"{best.candidate.flags}"
            )
        return own
