"""What a checkpoint's network is: which variant of its architecture, behind which normalisation.

The witnesses: what batch-norms remember (``fingerprint``), the cross-entropy and the accuracy of labelled
images, and the accuracy that the file states. They are asked about every way of assembling the weights;
``decision`` weighs what they say.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_coded.models import alterations
from robustbench_coded.models.candidates import (
    SMALL_BATCH,
    Assembly,
    Candidate,
    multiplications,
)
from robustbench_coded.models.checkpoint import Checkpoint
from robustbench_coded.models.contradictions import confirmed, contradictions
from robustbench_coded.models.decision import (
    Evidence,
    Stated,
    accuracy_in_doubt,
    allowed,
    by_labels,
    chosen_among,
)
from robustbench_coded.models.few_threads import SMALL, few_threads
from robustbench_coded.models.fingerprint import trained_batch_norms
from robustbench_coded.models.freed_memory import keep_freed_memory, no_collections
from robustbench_coded.models.input_kinds import heavy_kinds
from robustbench_coded.models.label_search import (
    IMAGES_FOR_LABELS_ALONE,
    among_many,
    asked,
    beside_nearer,
    beside_space,
    by_more_labels,
    forms_of,
    in_space,
    less_sure,
    told_apart,
)
from robustbench_coded.models.last_layer import unread_features
from robustbench_coded.models.metadata import stored_normalisation
from robustbench_coded.models.normalisation import KNOWN, Normalisation, NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.search import Search
from robustbench_coded.models.stored_accuracy import stored_accuracy
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.views import better_view

# Images that are looked at; with their labels as many as these multiplications pay for: of every candidate
# that is asked, and of the one that is chosen.
IMAGES = 2048
FEWEST_COMPARED = 64
FORM_IMAGES = 32  # at first, of a form that no batch-norm sees
FORM_IMAGES_ALONE = 512  # without batch-norms, where 32 are all answered rightly in any form
COMPARED_MULTIPLICATIONS = 15e9
FEWEST_LABELLED = 64
LABELLED_MULTIPLICATIONS = 30e9
DOUBTED_MULTIPLICATIONS = 300e9  # where it seems to fall short of the stated accuracy, or comes near chance

# Below this accuracy, some of those images are shown in other views, too.
WELL_ANSWERED = 0.6
WELL_ANSWERED_ALONE = 0.9  # without batch-norms
FEWEST_VIEWED, MOST_VIEWED = 32, 256

# Beyond this score, besides what is by chance, images of heavier trainings are tried; they are taken where
# they are so many times nearer.
FAR = 0.002
CLEARLY = 1.5

# Labelled images are asked about candidates whose score is at most so many times the best one's.
CLOSE = 2.0
MOST_CLOSE = 5

# Where more than FAR is left, settings of layers are tried on these kinds of images, too.
USUAL_KINDS = ("shifted and flipped", "shifted", "plain")

SHOWN = 6  # candidates that evidence names


# Normalisations that go with any data set, and how far the mean of other images is from a data set's own.
FOR_ANY_DATA = ("none", "half", "bytes", "imagenet", "custom")
APART = 0.05

FEWEST_IMAGES = 256  # below which batch-norms overrule nothing


@dataclass(frozen=True)
class Recognition:
    """The decision on one checkpoint, and its evidence.

    Attributes:
        chosen: the candidate that is evaluated.
        choice: its normalisation, and where it comes from.
        model: the candidate from pixels to logits.
        others: further candidates, the closest first.
        unseen: parts that no witness could judge.
        stated: what the user and the file say.
        contradictions: why the network should not be believed, a clause each; empty where it should.
    """

    chosen: Evidence
    choice: NormalisationChoice
    model: PixelModel
    others: tuple[Evidence, ...]
    unseen: tuple[str, ...]
    stated: Stated
    contradictions: tuple[str, ...]

    @property
    def arch(self) -> str:
        """The variant, as ``--arch`` takes it."""
        return self.chosen.candidate.arch


def recognise_network(
    checkpoint: Checkpoint, images: Tensor, labels: Tensor | None, *, device: torch.device | None = None
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these as
            many as ``images_wanted`` are looked at.
        labels: [n] int64 in [0, classes); None where there are none: then its batch-norms alone decide.
        device: where networks answer.
    """
    device = torch.device("cpu") if device is None else device
    keep_freed_memory()
    # Networks that sample take the same draws each time, without touching the global generator.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), no_collections():
        torch.manual_seed(0)
        return _recognised(Assembly(checkpoint, images[: images_wanted(checkpoint)], device), labels)


def images_wanted(checkpoint: Checkpoint) -> int:
    """The most images that are looked at: without batch-norms, labels alone decide and more are needed."""
    return IMAGES if trained_batch_norms(checkpoint.network) else IMAGES_FOR_LABELS_ALONE


def _recognised(assembly: Assembly, labels: Tensor | None) -> Recognition:
    checkpoint = assembly.checkpoint
    stated = stated_by(checkpoint)
    normalisations = _normalisations(stated, checkpoint, assembly.images)
    usual = Candidate(checkpoint.arch, normalisations[0])
    cost = multiplications(assembly.model(usual), assembly.images[:1].to(assembly.device))
    if cost < SMALL and not assembly.samples:  # draws depend on the batch: asked again, they are the same
        assembly.at_once = SMALL_BATCH
    with few_threads(cost):
        return _decided(assembly, labels, stated, normalisations, usual, cost)


def _decided(
    assembly: Assembly,
    labels: Tensor | None,
    stated: Stated,
    normalisations: list[Normalisation],
    usual: Candidate,
    cost: int,
) -> Recognition:
    checkpoint = assembly.checkpoint
    if trained_batch_norms(checkpoint.network):
        first = [usual] if stated.normalisation is not None else []
        arch = None if first else stated.arch
        search = Search(assembly, normalisations, per_image=cost)
        scored = search.run(first, arch)
        if scored[0].score > FAR + scored[0].fingerprint.by_chance and not assembly.samples:
            heavy = search.on_kinds(heavy_kinds(assembly.images))
            again = heavy.run(first, arch) if heavy.comes_nearer(scored[0]) else scored
            if again[0].score * CLEARLY < scored[0].score:
                search, scored = heavy, again
        found = [
            Evidence(
                one.candidate,
                one.kind,
                one.fingerprint,
                one.alike,
                fitted=not _offered(one.candidate.normalisation, normalisations),
            )
            for one in scored
        ]
        unseen, alone = search.unseen, search.stands_out
    else:
        found = [Evidence(replace(usual, normalisation=one)) for one in normalisations]
        unseen, alone = tuple(assembly.variants), False
    # Batch-norms over few images say too little to overrule what is usual.
    few = len(assembly.images) < FEWEST_IMAGES
    # Only what saw the most images is decided among; the others were clearly worse before.
    most = found[0].images
    close = [one for one in found if one.images == most and allowed(one, stated)] or found[:1]
    if few:
        close = [one for one in close if one.candidate.arch == (stated.arch or checkpoint.arch)] or close
    if most:
        close = [one for one in close if one.score <= CLOSE * close[0].score][: 1 if alone else MOST_CLOSE]
    if labels is not None:
        count = max(FEWEST_COMPARED, min(IMAGES, int(COMPARED_MULTIPLICATIONS / cost)))
        found = [
            asked(assembly, one, labels, count)
            if one in close or one is found[0] or one.fingerprint is None
            else one
            for one in found
        ]
        if not most:
            found = by_more_labels(assembly, found, labels, stated, COMPARED_MULTIPLICATIONS / cost)
        close = [one for one in found if one.candidate in {other.candidate for other in close}]
    chosen = chosen_among(close, stated, _foreign(normalisations, assembly.images))
    view: tuple[str, ...] = ()
    if labels is not None:
        if not most:
            spaced = in_space(assembly, chosen, stated, labels, count, cost)
            before = beside_space(chosen), chosen.candidate.normalisation
            chosen = by_labels(chosen, spaced)
        for part in unseen:
            forms = forms_of(assembly, chosen, part)
            for images in _growing(FORM_IMAGES if most else FORM_IMAGES_ALONE, count):
                forms = [asked(assembly, one, labels, images) for one in forms]
                if most and images == count:
                    chosen, forms = told_apart(assembly, chosen, forms, labels, cost)
                found += [one for one in forms if images == count or one.worse_than(chosen)]
                forms = [one for one in forms if not one.worse_than(chosen)]
            chosen = by_labels(chosen, [one for one in forms if allowed(one, stated)])
        if not most:
            chosen, *alike = among_many(assembly, chosen, normalisations, stated, labels, count, cost)
            chosen = less_sure(assembly, chosen, normalisations, stated, labels, count, cost)
            if (beside_space(chosen), chosen.candidate.normalisation) != before:
                # With another activation or normalisation, a wrong layout has nothing to make up for.
                spaced = in_space(assembly, chosen, stated, labels, count, cost)
                chosen = by_labels(chosen, spaced)
            known = {one.candidate for one in found}
            own = split_variant(chosen.candidate.arch)  # in whatever order its parts are named
            other = [one for one in (*alike, *spaced) if split_variant(one.candidate.arch) != own]
            beside = [one for one in other if one.same_as(chosen)]
            found += [one for one in (chosen, *beside) if one.candidate not in known]
        unseen = ()
        count = max(FEWEST_LABELLED, min(IMAGES, int(LABELLED_MULTIPLICATIONS / cost)))
        chosen = asked(assembly, chosen, labels, count)
        while accuracy_in_doubt(chosen, stated, checkpoint.classes) and count < min(
            len(assembly.images), DOUBTED_MULTIPLICATIONS / cost
        ):
            count = min(2 * count, len(assembly.images))
            chosen = asked(assembly, chosen, labels, count)
        if most:
            chosen, found = beside_nearer(assembly, chosen, found, labels, stated)
        assert chosen.labelled is not None
        if chosen.labelled.accuracy < (WELL_ANSWERED if most else WELL_ANSWERED_ALONE):
            viewed = assembly.images[: max(FEWEST_VIEWED, min(MOST_VIEWED, count // 4))].to(assembly.device)
            # An unusual form that labels chose may make up for what the view does.
            tried = [chosen.candidate] + ([one.candidate for one in close[:1]] if not most else [])
            answers = [assembly.answers(one, rounded=bool(most)) for one in dict.fromkeys(tried)]
            with assembly.bfloat16() if most else nullcontext():
                view = better_view(answers, viewed, labels, chosen.labelled, turned=bool(most))
        if not most and not view and not confirmed(chosen, stated):
            view = unread_features(
                assembly.network(chosen.candidate.arch),
                assembly.answers(chosen.candidate),
                assembly.images[: min(count, int(LABELLED_MULTIPLICATIONS / cost))].to(assembly.device),
                labels,
                classes=checkpoint.classes,
                at_once=assembly.at_once,
            )
    if chosen.fingerprint is not None and chosen.fingerprint.excess > FAR and not assembly.samples:
        kinds = {
            kind: assembly.inputs(kind, 0, alterations.IMAGES)
            for kind in dict.fromkeys([chosen.kind or "plain", *USUAL_KINDS])
        }
        mean, std = (
            torch.tensor(part, device=assembly.device).view(1, -1, 1, 1)
            for part in (chosen.candidate.normalisation.mean, chosen.candidate.normalisation.std)
        )
        network = assembly.network(chosen.candidate.arch)
        view += alterations.nearer_setting(
            network, lambda x: (x - mean) / std, kinds, chosen.fingerprint.excess
        )
    others = tuple(one for one in found if one.candidate != chosen.candidate)
    shown = sorted(others, key=lambda one: _place(chosen, one))
    seen = [one for one in others if one.images == most]
    return Recognition(
        chosen=chosen,
        choice=_choice(chosen, found, stated),
        model=assembly.model(chosen.candidate),
        others=tuple(shown[:SHOWN]),
        unseen=unseen,
        stated=stated,
        contradictions=(*contradictions(chosen, seen, stated, checkpoint.classes, few=few), *view),
    )


def _growing(first: int, last: int) -> list[int]:
    """Numbers of images from ``first`` to ``last``, each four times the one before."""
    found = []
    while first < last:
        found.append(first)
        first *= 4
    return [*found, last]


def _place(chosen: Evidence, other: Evidence) -> float:
    """Where it is shown among others: what may be right first, of that what answers most images otherwise."""
    if not chosen.same_as(other):
        return 2.0
    if chosen.labelled is None or other.labelled is None:
        return 1.0
    return chosen.labelled.agreement(other.labelled)


def stated_by(checkpoint: Checkpoint) -> Stated:
    """What the user and the file say of a network."""
    accuracy = stored_accuracy(checkpoint.metadata) or stored_accuracy(checkpoint.layout.entries)
    named = "[" in checkpoint.arch or checkpoint.metadata.get("arch") == checkpoint.arch
    return Stated(
        arch=checkpoint.arch if named else None,
        normalisation=checkpoint.normalisation,
        source=checkpoint.normalisation_source,
        accuracy=accuracy,
        samples=bool(getattr(checkpoint.network, "samples", False)),
    )


def _normalisations(stated: Stated, checkpoint: Checkpoint, images: Tensor) -> list[Normalisation]:
    """All that come into question, one that is stated first: the known ones, the file's, the images' own."""
    known = list(KNOWN[checkpoint.channels].values())
    mean, std = (part.tolist() for part in (images.mean((0, 2, 3)), images.std((0, 2, 3)).clamp(min=1e-3)))
    own = Normalisation("custom", tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std))
    first = (stated.normalisation, stored_normalisation(checkpoint.metadata, checkpoint.channels))
    found = list(dict.fromkeys([*(one for one in first if one is not None), *known]))
    # Beside a published one that is nearly the same it would only be a copy.
    return found if any(_nearly(own, one) for one in found) else [*found, own]


def _offered(one: Normalisation, normalisations: Sequence[Normalisation]) -> bool:
    """Whether it is one of these, perhaps with its channels reversed."""
    turned = replace(one, mean=one.mean[::-1], std=one.std[::-1])
    known = {(other.mean, other.std) for other in normalisations}
    return (one.mean, one.std) in known or (turned.mean, turned.std) in known


def _foreign(normalisations: Sequence[Normalisation], images: Tensor) -> set[Normalisation]:
    """Those of data sets whose images have another mean than these."""
    own = images.mean((0, 2, 3)).tolist()
    return {
        one
        for one in normalisations
        if one.name not in FOR_ANY_DATA
        and max(abs(a - b) for a, b in zip(one.mean, own, strict=True)) > APART
    }


def _nearly(one: Normalisation, other: Normalisation) -> bool:
    """Whether two normalisations differ by less than a twentieth of a deviation."""
    shifts = (abs(a - b) / s for a, b, s in zip(one.mean, other.mean, other.std, strict=True))
    scales = (abs(a / b - 1) for a, b in zip(one.std, other.std, strict=True))
    return max(*shifts, *scales) < 0.05


def _choice(chosen: Evidence, found: Sequence[Evidence], stated: Stated) -> NormalisationChoice:
    """The normalisation with the labelled figures of all that were asked about."""
    normalisation = chosen.candidate.normalisation
    choice = NormalisationChoice(normalisation.name, normalisation.mean, normalisation.std, stated.source)
    if stated.normalisation is not None:
        return choice
    asked: dict[str, tuple[str, float, float]] = {}
    for one in (chosen, *found):
        name = one.candidate.normalisation.name
        if chosen.labelled is None or one.labelled is None or name in asked:
            continue
        if one.labelled.examples == chosen.labelled.examples:
            asked[name] = (name, one.labelled.cross_entropy, one.labelled.accuracy)
    alike = [one.candidate.normalisation.name for one in found if chosen.same_as(one)]
    return replace(
        choice,
        examples=0 if chosen.labelled is None else chosen.labelled.examples,
        candidates=tuple(asked.values()),
        not_separable=tuple(dict.fromkeys(name for name in alike if name != normalisation.name)),
    )
