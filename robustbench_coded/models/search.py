"""Which way of assembling the weights reproduces what the batch-norms remember.

All combinations would be hundreds. But a batch-norm sees only what comes before it: the first one tells
normalisations apart, and a part without weights changes nothing before the batch-norm that it reaches first.
So parts are tried one after the other in the order in which they take effect, each by the layers up to the
next part's, and what is clearly worse there goes no further. Kinds of training images, as mixed ones, are not
told apart by the first layers: those that are not clearly worse are compared again by more.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from robustbench_coded.data.augment import KINDS
from robustbench_coded.models.candidates import MOST_IMAGES, Assembly, Candidate, Evidence, unusual_parts
from robustbench_coded.models.fingerprint import Fingerprint, not_clearly_worse, not_told_apart
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.registry import INPUT, PER_IMAGE, changed, split_variant

# Images for normalisations by the first layers: of all, and of those that are not clearly worse.
FIRST_IMAGES = (16, 64)
KIND_MARGIN = 4.0  # where one layer alone decides, so many times what is by chance

# Images for parts and at first for whole networks, and for those that stay close to each other: as many as so
# many multiplications of one candidate pay for, within these limits.
PART_IMAGES = (16, 64)
PART_MULTIPLICATIONS = 4e9
FEWEST = 8  # at first, of every form of a part
FINAL_IMAGES = (96, MOST_IMAGES)
FINAL_MULTIPLICATIONS = 12e9

# So many batch-norms after the one that a part reaches first are enough to tell its forms apart.
LAYERS_PER_PART = 4

# Where so much more is left than chance, the kind of images may be another one, or a wrong part may hide
# which normalisation is right: those so near are compared with every variant, too.
LEFT_OVER = 0.001
NEAR = 2.0
CLEARLY = 1.25  # so many times better, another kind of images is taken

NORMALISATIONS = 3  # that are taken to the end beside the first one
KINDS_TAKEN = 4  # kinds of images that are taken to the end with the first normalisation
MOST_PROCESSINGS = 4  # that whole networks are compared behind
WIDTH = 4  # candidates that are taken to the next part
RIVALS = 3  # that are taken to more images of whole networks


class InputProcessing(NamedTuple):
    """What happens to images before the first layer, and which kind of images they are."""

    normalisation: Normalisation
    input: str | None  # its form, where it is not the usual one
    kind: str

    def end(self, arch: str) -> tuple[Candidate, str]:
        """The variant behind it, and the kind of images that it is compared on."""
        own = changed(arch, INPUT, self.input) if self.input else arch
        return Candidate(own, self.normalisation), self.kind


End = tuple[Candidate, str]


class Search:
    """The search among the ways of assembling one checkpoint that has batch-norms.

    Args:
        assembly: of the checkpoint, with images.
        normalisations: those that come into question.
        per_image: multiplications for one image; they say how many images are affordable.
    """

    def __init__(
        self, assembly: Assembly, normalisations: Sequence[Normalisation], *, per_image: int
    ) -> None:
        self.assembly = assembly
        self.normalisations = normalisations
        # Every part in its usual form; one in another form that is stated is among the candidates.
        self.arch, _ = split_variant(assembly.checkpoint.arch)
        self.few = _affordable(PART_IMAGES, PART_MULTIPLICATIONS / per_image)
        self.images = _affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS / per_image)
        self.onsets = self._onsets()
        # Parts that batch-norms see, in the order in which they take effect.
        self.order = sorted((onset, part) for part, onset in self.onsets.items() if onset is not None)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Parts that no batch-norm sees, such as a pooling before the last layer."""
        return tuple(part for part, onset in self.onsets.items() if onset is None)

    def run(self, stated: Sequence[Candidate], arch: str | None = None) -> list[Evidence]:
        """The candidates that come closest and those that are ``stated``, best first.

        Args:
            arch: a variant that is stated without a normalisation; it is tried behind the likely ones.
        """
        processings = self._likely_processings()
        if arch is not None:
            form = split_variant(arch)[1].get(INPUT)
            likely = [Candidate(arch, one.normalisation) for one in processings if one.input == form]
            stated = list(dict.fromkeys([*stated, *likely]))
        beam, layers = [self.arch], 0
        for place, (onset, part) in enumerate(self.order):
            later = [other for other, _ in self.order[place + 1 :] if other > onset]
            layers = min([onset + LAYERS_PER_PART, *later])
            beam = self._in_one_part(part, beam, processings[0], layers)
            processings = self._nearest_first(beam[0], processings, layers)
        return self._ends(beam, processings[:MOST_PROCESSINGS], stated)

    def _likely_processings(self) -> list[InputProcessing]:
        """Normalisations with kinds of images, best first by the layers before the first part."""
        layers = max(1, self.order[0][0]) if self.order else 2
        known: list[tuple[Normalisation, str | None]] = [(one, None) for one in self.normalisations]
        if self.assembly.variants:
            channels = self.assembly.checkpoint.channels
            known.append((Normalisation("none", (0.0,) * channels, (1.0,) * channels), PER_IMAGE))
        left = [InputProcessing(*one, kind) for one in known for kind in KINDS]
        for images in FIRST_IMAGES:
            scored = self._scored((one.end(self.arch) for one in left), images, layers)
            seen = [(scored[one.end(self.arch)], one) for one in left]
            left = not_clearly_worse(seen, len(seen), margin=KIND_MARGIN)
        nearest = {one[:2]: one for one in reversed(left)}  # the best kind of each normalisation
        first = [one for one in left if one[:2] == left[0][:2]]
        others = [one for one in left if one is nearest[one[:2]] and one is not left[0]]
        return [*first[:KINDS_TAKEN], *others[:NORMALISATIONS]]

    def _in_one_part(self, part: str, beam: list[str], processing: InputProcessing, layers: int) -> list[str]:
        """The best of the ``beam`` and of its other forms in one part, by the first layers."""
        images = max(self.few, FIRST_IMAGES[-1]) if layers == 1 else self.few

        def best_of(archs: Iterable[str]) -> list[str]:
            left = list(dict.fromkeys(archs))
            for count in (max(FEWEST, images // 4), images // 2, images):
                scored = {
                    arch: self.assembly.fingerprint(*processing.end(arch), count, layers) for arch in left
                }
                left = not_clearly_worse(((one, arch) for arch, one in scored.items()), len(scored))
            best = scored[left[0]]
            # What is usual goes on before its near copies.
            left.sort(key=lambda arch: unusual_parts(arch) if not_told_apart(scored[arch], best) else 9)
            return left[:WIDTH]

        likely = best_of([beam[0], *self.assembly.forms(beam[0], part)])
        forms = {split_variant(arch)[1].get(part) for arch in likely}
        others = [other for arch in beam for other in self.assembly.forms(arch, part)]
        return best_of([*likely, *beam, *(one for one in others if split_variant(one)[1].get(part) in forms)])

    def _nearest_first(
        self, arch: str, processings: list[InputProcessing], layers: int
    ) -> list[InputProcessing]:
        """The same processings by what more layers say; none is dropped."""
        first = self.assembly.fingerprint(*processings[0].end(arch), self.few, layers)
        if len(processings) == 1 or (first.excess <= LEFT_OVER and first.score <= first.by_chance):
            return processings  # no other can be nearer than so few images show
        scored = self._scored((one.end(arch) for one in processings), self.few, layers)
        return sorted(processings, key=lambda one: scored[one.end(arch)].score)

    def _ends(
        self, beam: list[str], processings: list[InputProcessing], stated: Sequence[Candidate]
    ) -> list[Evidence]:
        """Candidates by all layers, on more and more images."""
        usual = min(beam, key=unusual_parts)
        scored = self._scored([one.end(usual) for one in processings], self.few)
        ordered = sorted(processings, key=lambda one: scored[one.end(usual)].score)
        nearest = scored[ordered[0].end(usual)]
        # The variants are compared behind the best processing of each normalisation that may be right.
        behind = {one[:2]: one for one in reversed(ordered)}.values()
        near = [one for one in behind if scored[one.end(usual)].score <= NEAR * nearest.score]
        ends = [
            one.end(arch) for one in (near if nearest.excess > LEFT_OVER else ordered[:1]) for arch in beam
        ]
        kinds = dict.fromkeys(one.kind for one in ordered)
        scored |= self._scored([*ends, *((one, kind) for one in stated for kind in kinds)], self.few)
        left = self._on_more_images(_best_kinds(scored), scored, stated)
        # What is left of a network that samples is its temperature, which is another one in training.
        if scored[left[0]].excess > LEFT_OVER and not self.assembly.samples:
            # Of what is stated, and of what the first layers put second, few kinds were compared.
            second = (one.end(usual)[0] for one in ordered if one.normalisation != left[0][0].normalisation)
            doubted = dict.fromkeys([left[0][0], *stated, *islice(second, 1)])
            best = {end[0]: end[1] for end in _best_kinds(scored)}
            again = [end for one in doubted for end in self._on_another_kind(one, best[one], beam)]
            images = scored[left[0]].images
            scored |= self._scored(again, images)
            left = _near(_best_kinds({end: scored[end] for end in [*left, *again]}), scored, stated)
        ends = [*left, *(end for end in _best_kinds(scored) if end[0] not in {one for one, _ in left})]
        found = [Evidence(*end, scored[end]) for end in ends]
        return sorted(found, key=lambda one: (-one.images, one.score))

    def _on_more_images(
        self, left: list[End], scored: dict[End, Fingerprint], stated: Sequence[Candidate]
    ) -> list[End]:
        """Those that stay close to each other, with their scores on as many images as are affordable."""
        count, most = self.few, min(self.images, len(self.assembly.representative))
        while True:
            left = _near(left, scored, stated)
            if count >= most:
                return left
            count = min(2 * count, most)
            scored |= self._scored(left, count)

    def _on_another_kind(self, candidate: Candidate, kind: str, beam: Sequence[str]) -> list[End]:
        """It and its variants on another kind of images, if that fits it clearly better."""
        seen = {other: self.assembly.fingerprint(candidate, other, self.few).score for other in KINDS}
        other = min(seen, key=seen.__getitem__)
        if seen[other] * CLEARLY > seen[kind]:
            return []
        form = split_variant(candidate.arch)[1].get(INPUT)
        processing = InputProcessing(candidate.normalisation, form, other)
        return list(dict.fromkeys([(candidate, other), *map(processing.end, [*beam, self.arch])]))

    def _scored(self, ends: Iterable[End], images: int, layers: int | None = None) -> dict[End, Fingerprint]:
        return {end: self.assembly.fingerprint(*end, images, layers) for end in ends}

    def _onsets(self) -> dict[str, int | None]:
        """For every part the first batch-norm that sees another form of it."""

        def seen(arch: str, layers: int | None) -> Fingerprint:
            return self.assembly.fingerprint(Candidate(arch, self.normalisations[0]), "plain", 2, layers)

        found: dict[str, int | None] = dict.fromkeys(self.assembly.variants)
        for layers in (LAYERS_PER_PART, None):  # most parts show in the first layers
            usual = seen(self.arch, layers)
            for part in [part for part, onset in found.items() if onset is None]:
                others = (seen(other, layers) for other in self.assembly.forms(self.arch, part)[:2])
                onsets = [onset for one in others if (onset := _first_difference(usual, one)) is not None]
                found[part] = min(onsets, default=None)
        return found


def _affordable(limits: tuple[int, int], images: float) -> int:
    return max(limits[0], min(limits[1], int(images)))


def _best_kinds(scored: Mapping[End, Fingerprint]) -> list[End]:
    """Each candidate on the kind of images that fits it best, of those that it has seen most images of."""
    ordered = sorted(scored, key=lambda end: (-scored[end].images, scored[end].score))
    return list({end[0]: end for end in reversed(ordered)}.values())


def _near(ends: Sequence[End], scored: Mapping[End, Fingerprint], stated: Sequence[Candidate]) -> list[End]:
    """Those that go on, best first; what is stated is compared with the best one, however far it is."""
    near = not_clearly_worse([(scored[end], end) for end in ends], len(ends))
    usual = min(near, key=lambda end: unusual_parts(end[0].arch))  # near copies do not crowd it out
    asked = sorted((end for end in ends if end[0] in stated), key=lambda end: scored[end].score)
    return list(dict.fromkeys([*near[:RIVALS], usual, *asked[:1]]))


def _first_difference(one: Fingerprint, other: Fingerprint) -> int | None:
    pairs = zip(one.divergences, other.divergences, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if abs(a - b) > 1e-6 * max(a, b)), None)
