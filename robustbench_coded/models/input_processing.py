"""What lies before the first layer: the normalisation, and images as in which training.

The first batch-norm alone tells most normalisations apart. Kinds of training images it does not: those that
are not clearly worse are compared again as soon as more layers can be trusted.
"""

from collections.abc import Sequence
from typing import NamedTuple

from robustbench_coded.models.candidates import Candidate, Fingerprints
from robustbench_coded.models.fingerprint import Fingerprint, not_clearly_worse
from robustbench_coded.models.first_layer import (
    Patches,
    first_convolution,
    first_layer,
    other_normalisations,
)
from robustbench_coded.models.normalisation import Normalisation, named
from robustbench_coded.models.registry import BGR, INPUT, PER_IMAGE, changed

# Images for the first layers alone: of all, and of those that are not clearly worse.
FIRST_IMAGES = (16, 64)
MANY = 8  # normalisations, which cost as much one by one as all at once
FIRST_MARGIN, KIND_MARGIN = 2.0, 4.0  # where one layer alone decides, so many times what is by chance

# Where the first layers are farther than this from what they remember with every known normalisation, others
# are looked for. Right ones are at 0.0037 at most on 64 images.
UNKNOWN = 0.004
BETTER = 1.5  # so many times nearer one of those has to be

# Where so much more is left than chance, the kind of images may be another one: few images confuse them.
LEFT_OVER = 0.001

NORMALISATIONS = 4  # that are taken to the end
KINDS_TAKEN = 4  # kinds of images that are taken to the end with the first normalisation


class InputProcessing(NamedTuple):
    """What happens to images before the first layer, and which kind of images they are."""

    normalisation: Normalisation
    input: str | None  # its form, where it is not the usual one
    kind: str

    def candidate(self, arch: str) -> Candidate:
        """The variant with this form of its input, behind this normalisation."""
        return Candidate(changed(arch, INPUT, self.input) if self.input else arch, self.normalisation)

    def end(self, arch: str) -> tuple[Candidate, str]:
        """The candidate, and the kind of images that it is compared on."""
        return self.candidate(arch), self.kind


def likely_processing(
    fingerprints: Fingerprints,
    arch: str,
    normalisations: Sequence[Normalisation],
    layers: int,
    *,
    kinds: Sequence[str],
    unknown: float | None = None,
) -> list[InputProcessing]:
    """Normalisations with kinds of images, best first by the first layers.

    Args:
        kinds: of training images that come into question, those of usual trainings first.
        unknown: look for others, too, where all of these are farther than that; None for never.
    """
    known: list[tuple[Normalisation, str | None]] = [(one, None) for one in normalisations]
    channels = fingerprints.assembly.checkpoint.channels
    if fingerprints.assembly.variants:
        known.append((Normalisation("none", (0.0,) * channels, (1.0,) * channels), PER_IMAGE))
        if channels == 3:
            # Means and deviations in the same order, or left in that of red, green, blue.
            turned = [named(one.mean[::-1], one.std[::-1]) for one in normalisations]
            known += [(one, BGR) for one in dict.fromkeys([*normalisations, *turned])]
    left = [InputProcessing(*one, kind) for one in known for kind in kinds]
    for images in FIRST_IMAGES:
        seen = _by_first_layers(fingerprints, arch, left, images, layers)
        left = not_clearly_worse(seen, len(left), margin=KIND_MARGIN)
    best = min(one.score for one, _ in seen)
    uncommon = unknown is not None and best >= unknown
    further = _uncommon(fingerprints, arch, best, kinds, images, layers) if uncommon else []
    # Mixing adds to chance, so kinds of images are let off more than normalisations.
    near = not_clearly_worse(seen, len(left), margin=FIRST_MARGIN)
    firsts = {
        processing[:2]: processing for processing in reversed(left)
    }  # the best kind of each normalisation
    taken = [processing for processing in left if processing[:2] == left[0][:2]][:KINDS_TAKEN]
    others = [
        processing for processing in near if processing is firsts[processing[:2]] and processing not in taken
    ]
    return [*further, *taken, *others[: NORMALISATIONS - 1]]


def _by_first_layers(
    fingerprints: Fingerprints, arch: str, processings: Sequence[InputProcessing], images: int, layers: int
) -> list[tuple[Fingerprint, InputProcessing]]:
    """Each processing with what the first layers say; many that differ in the normalisation alone at once."""
    by_kind: dict[str, dict[str | None, list[InputProcessing]]] = {}
    for processing in processings:
        by_kind.setdefault(processing.kind, {}).setdefault(processing.input, []).append(processing)
    seen = []
    for kind, forms in by_kind.items():
        patches = Patches(fingerprints.assembly.inputs(kind, 0, images))
        for form, group in forms.items():
            layer = None
            if layers == 1:
                own = changed(arch, INPUT, form) if form else arch
                at_once = first_layer if len(group) >= MANY else first_convolution
                layer = at_once(fingerprints.assembly, own, patches)
            for one in group:
                looked = (
                    fingerprints.fingerprint(one.candidate(arch), kind, images, layers)
                    if layer is None
                    else layer.fingerprint(one.normalisation)
                )
                seen.append((looked, one))
    return seen


def _uncommon(
    fingerprints: Fingerprints,
    arch: str,
    best: float,
    kinds: Sequence[str],
    images: int,
    layers: int,
) -> list[InputProcessing]:
    """Processings with normalisations without a name, nearer than ``best``, the score of those with one.

    One layer does not tell them apart, so what is usual comes first: no channels reversed, shifts and flips.
    """
    forms = [None] if fingerprints.assembly.checkpoint.channels == 1 else [None, BGR]
    found = []
    for form in forms:
        own = changed(arch, INPUT, form) if form else arch
        for one, kind in other_normalisations(fingerprints.assembly, own, kinds, best / BETTER):
            processing = InputProcessing(one, form, kind)
            found.append(
                (fingerprints.fingerprint(processing.candidate(arch), kind, images, layers), processing)
            )
    left = not_clearly_worse(found, len(found), margin=KIND_MARGIN) if found else []
    return sorted(left, key=lambda processing: (processing.input is not None, kinds.index(processing.kind)))


def nearest_first(
    fingerprints: Fingerprints, arch: str, processings: Sequence[InputProcessing], images: int, layers: int
) -> list[InputProcessing]:
    """The same processings by what more layers say; none is dropped.

    They stay as they are where the first is as near as so few images show: no other can be nearer.
    """

    def seen(processing: InputProcessing) -> Fingerprint:
        end = *processing.end(arch), images
        if layers > 1:
            # All of its layers are asked about later, unless another part changes: so all at once.
            fingerprints.fingerprint(*end)
        return fingerprints.fingerprint(*end, layers)

    if len(processings) == 1 or by_chance_alone(seen(processings[0])):
        return list(processings)
    return sorted(processings, key=lambda processing: seen(processing).score)


def by_chance_alone(found: Fingerprint) -> bool:
    """Whether what is left is no more than the small number of images explains."""
    return found.excess <= LEFT_OVER and found.score <= found.by_chance


def without_worse(
    fingerprints: Fingerprints, arch: str, processings: Sequence[InputProcessing], images: int, layers: int
) -> list[InputProcessing]:
    """The processings, best first, without other normalisations that so many layers call clearly worse.

    Kinds of images are all left: layers that come later may remember another one.
    """
    seen = [(fingerprints.fingerprint(*one.end(arch), images, layers), one) for one in processings]
    near = not_clearly_worse(seen, len(seen))
    return [*near, *(one for one in processings if one not in near and one[:2] == near[0][:2])]
