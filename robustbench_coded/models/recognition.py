"""What a checkpoint's network is: which variant of its architecture, behind which normalisation.

What the user or the file states is taken. The rest is guessed by what batch-norms remember (``fingerprint``)
and by labelled images; forms that these leave open are attacked, and where it matters which of them is right,
none is taken: the user is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.accelerator import random_states_kept
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.errors import InputError
from robustbench_coded.models import comparison, decision
from robustbench_coded.models.candidates import Assembly, Candidate, Evidence, multiplications
from robustbench_coded.models.fingerprint import trained_batch_norms
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.metadata import stored_accuracy, stored_normalisation
from robustbench_coded.models.normalisation import KNOWN, Normalisation, NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.search import Search
from robustbench_coded.threads import few_threads

# Images that are looked at; with their labels as many as these multiplications pay for: of every candidate
# that is asked, and of the one that is chosen.
IMAGES = 2048
FEWEST_COMPARED = 64
COMPARED_MULTIPLICATIONS = 15e9
FEWEST_LABELLED = 64
LABELLED_MULTIPLICATIONS = 30e9
DOUBTED_MULTIPLICATIONS = 300e9  # where it seems to fall short of the stated accuracy, or comes near chance

MOST_CLOSE = 5  # candidates that labelled images are asked about where batch-norms leave several
SHOWN = 6  # candidates that evidence names

# Normalisations that go with any data set, and how far the mean of other images is from a data set's own.
FOR_ANY_DATA = ("none", "half", "bytes", "imagenet", "custom")
APART = 0.012

FEWEST_IMAGES = 256  # below which batch-norms overrule nothing

# From the deviations of a normalisation to the budgets that an evaluation attacks within.
Budgets = Callable[[tuple[float, ...]], Sequence[PerturbationBudget]]


def usual_budget(deviation: tuple[float, ...]) -> Sequence[PerturbationBudget]:
    """8/255 for three channels and 0.3 for one, where nothing says how large perturbations will be."""
    return [PerturbationBudget("linf", 8 / 255 if len(deviation) == 3 else 0.3)]


@dataclass(frozen=True)
class Recognition:
    """The decision on one checkpoint, and its evidence.

    Attributes:
        chosen: the candidate that is evaluated, or that would be if there were no refusal.
        choice: its normalisation, and where it comes from.
        model: the candidate from pixels to logits.
        others: further candidates, the closest first.
        unseen: parts that no witness could judge.
        stated: what the user and the file say.
        attacked: plausible forms under attack, where there were several.
        warnings: what speaks against it, a clause each.
        refusal: why it is not evaluated, a clause that ends in what to state; empty where it is.
    """

    chosen: Evidence
    choice: NormalisationChoice
    model: PixelModel
    others: tuple[Evidence, ...]
    unseen: tuple[str, ...]
    stated: decision.Stated
    attacked: tuple[comparison.Attacked, ...]
    warnings: tuple[str, ...]
    refusal: str

    @property
    def arch(self) -> str:
        """The variant, as ``--arch`` takes it."""
        return self.chosen.candidate.arch

    @property
    def doubts(self) -> tuple[str, ...]:
        """All that speaks against it, what stops the evaluation first."""
        return tuple(dict.fromkeys(one for one in (self.refusal, *self.warnings) if one))


def recognise_network(
    checkpoint: Checkpoint,
    images: Tensor,
    labels: Tensor | None,
    *,
    budgets: Budgets = usual_budget,
    device: torch.device | None = None,
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these as
            many as ``images_wanted`` are looked at.
        labels: [n] int64 in [0, classes); None where there are none: then its batch-norms alone decide.
        budgets: perturbations under which forms are compared that nothing else tells apart.
        device: where networks answer.
    """
    device = torch.device("cpu") if device is None else device
    # Networks that sample take the same draws each time, without touching the global generator.
    with random_states_kept():
        torch.manual_seed(0)
        assembly = Assembly(checkpoint, images[: images_wanted(checkpoint)], device)
        made = _Decision(assembly, labels, budgets)
        with few_threads(made.cost):
            return made.made()


def with_normalisation(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> PixelModel:
    """The checkpoint as a Model from pixels to logits.

    Args:
        checkpoint: as loaded; its network is shared with the Model.
        images: (n, channels, height, width) in [0, 1]; read only where the normalisation has to be guessed,
            and then the variant of the architecture is, too.
        labels: (n,) int64.
    Raises:
        InputError: the images or labels are not of the checkpoint's channels or classes, or they leave open
            which normalisation is right.
    """
    known = checkpoint.normalisation
    if known is not None:
        network, classes = checkpoint.network, checkpoint.classes
        return PixelModel(network, known.mean, known.std, classes=classes, arch=checkpoint.arch)
    _check_examples(checkpoint, images, labels)
    found = recognise_network(checkpoint, images, labels)
    if found.refusal:
        raise InputError(f"{checkpoint.path}: {found.refusal}")
    return found.model


def _check_examples(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or images.shape[1] != checkpoint.channels:
        raise InputError(
            f"{checkpoint.path}: guessing its normalisation takes images of {checkpoint.channels} channels, "
            f"got {tuple(images.shape)}; pass --normalize"
        )
    if labels.min() < 0 or labels.max() >= checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: it answers {checkpoint.classes} classes, the labels go from "
            f"{int(labels.min())} to {int(labels.max())}; choose the data it was trained on with --data"
        )


def images_wanted(checkpoint: Checkpoint) -> int:
    """The most images that are looked at: without batch-norms, labels alone decide and more are needed."""
    return IMAGES if trained_batch_norms(checkpoint.network) else comparison.IMAGES_FOR_LABELS_ALONE


class _Decision:
    """One recognition, step by step.

    Args:
        assembly: of the checkpoint, with images.
        labels: of the images, and perhaps more; None where there are none.
        budgets: as for ``recognise_network``.
    """

    def __init__(self, assembly: Assembly, labels: Tensor | None, budgets: Budgets) -> None:
        self.assembly, self.labels, self.budgets = assembly, labels, budgets
        checkpoint = assembly.checkpoint
        self.stated = stated_by(checkpoint)
        self.common, self.rare = _normalisations(self.stated, checkpoint, assembly.images)
        self.usual = Candidate(checkpoint.arch, self.common[0])
        self.cost = multiplications(assembly.model(self.usual), assembly.images[:1].to(assembly.device))
        self.count = max(FEWEST_COMPARED, min(self._most, int(COMPARED_MULTIPLICATIONS / self.cost)))
        self.few = len(assembly.images) < FEWEST_IMAGES
        self.unseen: tuple[str, ...] = ()

    @property
    def _most(self) -> int:
        return images_wanted(self.assembly.checkpoint)

    def made(self) -> Recognition:
        """The decision."""
        checkpoint, stated = self.assembly.checkpoint, self.stated
        by_batch_norms = bool(trained_batch_norms(checkpoint.network))
        if by_batch_norms:
            found, forms = self._by_batch_norms()
        else:
            found, forms = self._by_labels()
        candidates = decision.plausible(forms)[:MOST_CLOSE]
        attacked = self._attacked(candidates)
        chosen, warnings, refusal = candidates[0], list[str](), ""
        if comparison.differ(attacked):
            if stated.source == "given":  # the user's normalisation is evaluated; of its forms the usual one
                chosen = min(candidates, key=lambda one: one.unusual)
                warnings.append(_undecided(attacked))
            else:
                refusal = _undecided(attacked)
        chosen = self._asked_until_clear(chosen)
        others = [one for one in found if one.candidate != chosen.candidate]
        doubts = list(decision.contradictions(chosen, others, stated, few=self.few))
        if not by_batch_norms and not decision.confirmed(chosen, stated):
            doubts += self._unread(chosen)
        strange = None if self.few else decision.unfamiliar(chosen, stated)
        if (chance := decision.by_chance(chosen, checkpoint.classes, stated)) is not None:
            refusal = chance
        elif refusal:
            pass
        elif strange is not None and stated.arch is None and decision.unfamiliar(self.nearest, stated):
            refusal = strange
        elif stated.normalisation is None and doubts:
            refusal = doubts[0]
        elif stated.normalisation is None and strange is not None:
            refusal = strange
        elif self.labels is None and not by_batch_norms and len(candidates) > 1:
            refusal = "nothing says which normalisation it was trained with; pass --normalize"
        taken = chosen.candidate.normalisation
        return Recognition(
            chosen=chosen,
            choice=NormalisationChoice(taken.name, taken.mean, taken.std, stated.source),
            model=self.assembly.model(chosen.candidate),
            others=tuple(sorted(others, key=lambda one: _place(chosen, one))[:SHOWN]),
            unseen=self.unseen if self.labels is None else (),
            stated=stated,
            attacked=tuple(attacked),
            warnings=(*warnings, *doubts, *([strange] if strange else [])),
            refusal=refusal,
        )

    def _by_batch_norms(self) -> tuple[list[Evidence], list[Evidence]]:
        """What was looked at, and of it the forms that may be right."""
        stated, assembly = self.stated, self.assembly
        search = Search(assembly, [*self.common, *self.rare], per_image=self.cost)
        first = [self.usual] if stated.normalisation is not None else []
        arch = None if first else stated.arch
        scored = search.run(first, arch)
        self.unseen = search.unseen
        found = [replace(one, rare=self._rarity(one.candidate.normalisation)) for one in scored]
        # Only what saw the most images is decided among; the others were clearly worse before.
        most = found[0].images
        seen = [one for one in found if one.images == most]
        if self.few:  # they say too little to overrule what is usual
            usual = (stated.arch or assembly.checkpoint.arch,)
            seen = [one for one in seen if one.candidate.arch in usual] or seen
        near = decision.tied(seen, stated)[:MOST_CLOSE]
        self.nearest = near[0]
        if self.labels is not None:
            near = [self._asked(one) for one in near]
            for part in self.unseen:
                near += [self._asked(one) for one in comparison.forms_of(assembly, near[0], part)]
        forms = [one for one in near if stated.allows(one.candidate)]
        if not forms:
            forms = [self._form(stated.applied_to(decision.plausible(near)[0].candidate), near[0], most)]
        every = {one.candidate: one for one in (*found, *near, *forms)}
        return list(every.values()), forms

    def _form(self, candidate: Candidate, near: Evidence, images: int) -> Evidence:
        """A candidate that the search left out, on the kind of images that fits another one."""
        kind = near.kind or "plain"
        found = Evidence(
            candidate,
            kind,
            self.assembly.fingerprint(candidate, kind, images),
            rare=self._rarity(candidate.normalisation),
        )
        return found if self.labels is None else self._asked(found)

    def _rarity(self, normalisation: Normalisation) -> int:
        return int(normalisation in self.rare)

    def _asked(self, one: Evidence) -> Evidence:
        assert self.labels is not None
        return comparison.asked(self.assembly, one, self.labels, self.count)

    def _by_labels(self) -> tuple[list[Evidence], list[Evidence]]:
        """The same without batch-norms."""
        stated, assembly = self.stated, self.assembly
        if self.labels is None:
            self.unseen = tuple(assembly.variants)
            found = [Evidence(Candidate(self.usual.arch, one)) for one in self.common]
            return found, [one for one in found if stated.allows(one.candidate)]
        found = comparison.best_by_labels(
            assembly, self.usual.arch, self.common, self.rare, self.labels, count=self.count, cost=self.cost
        )
        return found, [one for one in found if stated.allows(one.candidate)]

    def _attacked(self, candidates: Sequence[Evidence]) -> list[comparison.Attacked]:
        if self.labels is None or len(candidates) < 2:
            return []
        return comparison.under_attack(self.assembly, candidates, self.labels, self.budgets, cost=self.cost)

    def _asked_until_clear(self, chosen: Evidence) -> Evidence:
        """The chosen one, asked about as many labels as its accuracy needs."""
        if self.labels is None:
            return chosen
        count = max(FEWEST_LABELLED, min(self._most, int(LABELLED_MULTIPLICATIONS / self.cost)))
        images = len(self.assembly.images)
        chosen = comparison.asked(self.assembly, chosen, self.labels, count)
        while decision.accuracy_in_doubt(
            chosen, self.stated, self.assembly.checkpoint.classes
        ) and count < min(images, DOUBTED_MULTIPLICATIONS / self.cost):
            count = min(2 * count, images)
            chosen = comparison.asked(self.assembly, chosen, self.labels, count)
        return chosen

    def _unread(self, chosen: Evidence) -> Sequence[str]:
        if self.labels is None:
            return ()
        affordable = int(LABELLED_MULTIPLICATIONS / self.cost)
        return comparison.unread_features(
            self.assembly.network(chosen.candidate.arch),
            self.assembly.answers(chosen.candidate),
            self.assembly.images[:affordable].to(self.assembly.device),
            self.labels,
            classes=self.assembly.checkpoint.classes,
        )


def _undecided(attacked: Sequence[comparison.Attacked]) -> str:
    """Forms under attack, with what states each."""
    said = dict[Candidate, list[str]]()
    for one in attacked:
        figures = said.setdefault(one.form.candidate, [])
        if not figures and one.form.labelled is not None:
            figures.append(f"{one.form.labelled.accuracy:.1%} clean")
        figures.append(f"{one.accuracy:.1%} at {one.budget.norm} {one.budget.eps:.3g}")
    table = "; ".join(
        f"{decision.options(candidate)}: {', '.join(figures)}" for candidate, figures in said.items()
    )
    return (
        "its weights fit several forms that differ under attack "
        f"(PGD-{comparison.PGD_STEPS}, {attacked[0].images} images), and nothing says which is right; "
        f"state it: {table}"
    )


def _place(chosen: Evidence, other: Evidence) -> float:
    """Where it is shown among others: what may be right first, of that what answers most images otherwise."""
    if not chosen.same_as(other):
        return 2.0
    if chosen.labelled is None or other.labelled is None:
        return 1.0
    return chosen.labelled.agreement(other.labelled)


def stated_by(checkpoint: Checkpoint) -> decision.Stated:
    """What the user and the file say of a network."""
    accuracy = stored_accuracy(checkpoint.metadata) or stored_accuracy(checkpoint.layout.entries)
    return decision.Stated(
        arch=checkpoint.arch if checkpoint.arch_source != "guessed" else None,
        normalisation=checkpoint.normalisation,
        source=checkpoint.normalisation_source,
        accuracy=accuracy,
        samples=bool(getattr(checkpoint.network, "samples", False)),
    )


def _normalisations(
    stated: decision.Stated, checkpoint: Checkpoint, images: Tensor
) -> tuple[list[Normalisation], list[Normalisation]]:
    """Those in common use for such images, one that is stated first, and those of other data sets."""
    known = list(KNOWN[checkpoint.channels].values())
    mean, std = (part.tolist() for part in (images.mean((0, 2, 3)), images.std((0, 2, 3)).clamp(min=1e-3)))
    own = Normalisation("custom", tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std))
    # Beside a published one that is nearly the same it would only be a copy.
    known += [] if any(_nearly(own, one) for one in known) else [own]
    rare = [
        one
        for one in known
        if one.name not in FOR_ANY_DATA
        and max(abs(a - b) for a, b in zip(one.mean, own.mean, strict=True)) > APART
    ]
    first = (stated.normalisation, stored_normalisation(checkpoint.metadata, checkpoint.channels))
    common = [*(one for one in first if one is not None), *(one for one in known if one not in rare)]
    return list(dict.fromkeys(common)), [one for one in rare if one not in common]


def _nearly(one: Normalisation, other: Normalisation) -> bool:
    """Whether two normalisations differ by less than a twentieth of a deviation."""
    shifts = (abs(a - b) / s for a, b, s in zip(one.mean, other.mean, other.std, strict=True))
    scales = (abs(a / b - 1) for a, b in zip(one.std, other.std, strict=True))
    return max(*shifts, *scales) < 0.05
