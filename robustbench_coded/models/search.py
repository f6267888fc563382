"""Which way of assembling the weights reproduces what the batch-norms remember.

All combinations would be hundreds. But a batch-norm sees only what comes before it: the first one tells
normalisations and kinds of training images apart, and a part without weights changes nothing before the
batch-norm that it reaches first. So parts are tried one after the other in the order in which they take
effect, each by the layers up to the next part's, and what is clearly worse there goes no further.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice

from robustbench_coded.data.augment import KINDS
from robustbench_coded.models.candidates import (
    MOST_IMAGES,
    Assembly,
    Candidate,
    Evidence,
    Fingerprints,
    unusual_parts,
)
from robustbench_coded.models.fingerprint import Fingerprint, not_clearly_worse, not_told_apart
from robustbench_coded.models.input_processing import (
    FIRST_IMAGES,
    KIND_MARGIN,
    LEFT_OVER,
    UNKNOWN,
    InputProcessing,
    by_chance_alone,
    likely_processing,
    nearest_first,
    without_worse,
)
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.registry import INPUT, split_variant, unchanged

# Images for parts and at first for whole networks; for a network that stands out; and for those that stay
# close to each other: as many as so many multiplications of one candidate pay for, within these limits.
PART_IMAGES = (16, 64)
PART_MULTIPLICATIONS = 4e9
FEWEST = 8  # at first, of every form of a part
ENOUGH_IMAGES = (64, MOST_IMAGES)
ENOUGH_MULTIPLICATIONS = 10e9
FINAL_IMAGES = (128, MOST_IMAGES)
FINAL_MULTIPLICATIONS = 15e9

# So many batch-norms after the one that a part reaches first are enough to tell its forms apart.
LAYERS_PER_PART = 4

# A usual network stands out, and is not compared on more images, where no other is better, those with other
# normalisations are so many times worse, and it is near to what is fingerprints.
STANDS_OUT = 2.0
CLEARLY = 1.25  # so many times better, another kind of images is taken
NEAR = 0.005

MOST_PROCESSINGS = 4  # that whole networks are compared behind
WIDTH = 4  # candidates that are taken to the next part
RIVALS = 3  # that are taken to more images of whole networks


class Search:
    """The search among the ways of assembling one checkpoint that has batch-norms.

    Args:
        assembly: of the checkpoint, with images.
        normalisations: those that come into question.
        per_image: multiplications for one image; they say how many images are affordable.
        kinds: of training images that come into question.
    """

    def __init__(
        self,
        assembly: Assembly,
        normalisations: Sequence[Normalisation],
        *,
        per_image: int,
        kinds: Sequence[str] = tuple(KINDS),
    ) -> None:
        self.kinds = kinds
        self.assembly = assembly
        self.normalisations = normalisations
        self.fingerprints = Fingerprints(assembly)
        # Every part in its usual form; one in another form that is stated is among the candidates.
        self.arch, _ = split_variant(assembly.checkpoint.arch)
        self.few = _affordable(PART_IMAGES, PART_MULTIPLICATIONS / per_image)
        self.enough = _affordable(ENOUGH_IMAGES, ENOUGH_MULTIPLICATIONS / per_image)
        self.images = _affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS / per_image)
        self.stands_out = False  # whether the first of those found has no rival
        self.onsets = self._onsets()
        # Parts that batch-norms see, in the order in which they take effect.
        self.order = sorted((onset, part) for part, onset in self.onsets.items() if onset is not None)

    def on_kinds(self, kinds: Sequence[str]) -> "Search":
        """The same on other kinds of training images."""
        other = copy(self)
        other.kinds, other.stands_out = kinds, False
        return other

    def comes_nearer(self, nearest: Evidence) -> bool:
        """Whether on few of these images what is nearest on others, or the usual variant, is nearer."""
        assert nearest.kind is not None  # it was found by its batch-norms
        own = unchanged(nearest.candidate.arch, INPUT)
        here = self.fingerprints.fingerprint(nearest.candidate, nearest.kind, self.few).score
        ends = (
            processing.end(arch)
            for processing in self._likely_processing(None)[:MOST_PROCESSINGS]
            for arch in dict.fromkeys([own, self.arch])
        )
        return any(self.fingerprints.fingerprint(*end, self.few).score < here for end in ends)

    def _likely_processing(self, unknown: float | None) -> list[InputProcessing]:
        """Normalisations with kinds of images, by the layers before the first part."""
        layers = max(1, self.order[0][0]) if self.order else 2
        return likely_processing(
            self.fingerprints, self.arch, self.normalisations, layers, kinds=self.kinds, unknown=unknown
        )

    @property
    def unseen(self) -> tuple[str, ...]:
        """Parts that no batch-norm sees, such as a pooling before the last layer."""
        return tuple(part for part, onset in self.onsets.items() if onset is None)

    def run(self, stated: Sequence[Candidate], arch: str | None = None) -> list[Evidence]:
        """The candidates that come closest and those that are ``stated``, best first.

        Args:
            arch: a variant that is stated without a normalisation; it is tried behind the likely ones.
        """
        processings = self._likely_processing(None if stated else UNKNOWN)
        if arch is not None:
            form = split_variant(arch)[1].get(INPUT)
            likely = [
                Candidate(arch, processing.normalisation)
                for processing in processings
                if processing.input == form
            ]
            stated = list(dict.fromkeys([*stated, *likely]))
        beam, layers = [self.arch], 0
        for place, (onset, part) in enumerate(self.order):
            later = [other for other, _ in self.order[place + 1 :] if other > onset]
            layers = min([onset + LAYERS_PER_PART, *later])
            beam = self._in_one_part(part, beam, processings[0], layers)
            processings = nearest_first(self.fingerprints, beam[0], processings, self.few, layers)
        if layers:
            processings = without_worse(self.fingerprints, beam[0], processings, self.few, layers)
        return self._ends(beam, processings[:MOST_PROCESSINGS], stated)

    def _in_one_part(self, part: str, beam: list[str], processing: InputProcessing, layers: int) -> list[str]:
        """The best of the ``beam`` and of its other forms in one part, by the first layers."""
        images = max(self.few, FIRST_IMAGES[-1]) if layers == 1 else self.few

        def best_of(archs: Iterable[str]) -> list[str]:
            left = list(dict.fromkeys(archs))
            for count in (max(FEWEST, images // 4), images // 2, images):
                scored = {
                    arch: self.fingerprints.fingerprint(*processing.end(arch), count, layers) for arch in left
                }
                left = not_clearly_worse(((one, arch) for arch, one in scored.items()), len(scored))
            best = scored[left[0]]
            # What is usual goes on before its near copies.
            left.sort(key=lambda arch: unusual_parts(arch) if not_told_apart(scored[arch], best) else 9)
            return left[:WIDTH]

        likely = best_of([beam[0], *self.fingerprints.forms(beam[0], part)])
        forms = {split_variant(arch)[1].get(part) for arch in likely}
        others = (other for arch in beam for other in self.fingerprints.forms(arch, part, forms))
        return best_of([*likely, *beam, *others])

    def _ends(
        self, beam: list[str], processings: list[InputProcessing], stated: Sequence[Candidate]
    ) -> list[Evidence]:
        """Candidates by all layers, on more and more images: until one stands out, or there are enough."""
        usual = min(beam, key=unusual_parts)
        first = self.fingerprints.fingerprint(*processings[0].end(usual), self.few)
        if by_chance_alone(first):
            # Other kinds of images cannot come nearer than chance.
            processings = [
                processing
                for processing in processings
                if processing is processings[0] or processing[:2] != processings[0][:2]
            ]
        scored = self._scored([processing.end(usual) for processing in processings], self.few)
        best = min(processings, key=lambda processing: scored[processing.end(usual)].score)
        kinds = tuple(dict.fromkeys([best.kind, *(processing.kind for processing in processings)]))
        # The variants are compared behind the processing that turns out best. While much is left, a wrong
        # part may hide which one that is: then behind those that are near, too.
        nearest = scored[best.end(usual)]
        behind = [best]
        if nearest.excess > LEFT_OVER:
            behind += [
                processing
                for processing in processings
                if scored[processing.end(usual)].score <= STANDS_OUT * nearest.score
                and processing[:2] not in {other[:2] for other in behind}
            ]
        ends = [processing.end(arch) for processing in behind for arch in beam]
        ends += [(candidate, kind) for candidate in stated for kind in kinds]
        scored |= self._scored(ends, self.few)
        left, count = _best_kinds(scored), self.few
        while True:
            left = _near(left, scored, stated)
            alone = _standing_out(left, scored, stated)
            most = min(self.images if alone is None else self.enough, len(self.assembly.representative))
            if count >= most:
                break
            count = min(2 * count, most)
            scored |= self._scored(left, count)
        # What is left of a network that samples is its temperature, which is another one in training.
        if scored[left[0]].excess > LEFT_OVER and not self.assembly.samples:
            # Of what is stated, and of what the first layers put second, few kinds were compared.
            asked = [(one, kinds[0]) for one in stated]
            second = [
                processing.end(usual)
                for processing in processings
                if processing.normalisation != left[0][0].normalisation
            ]
            doubted = {end[0]: end for end in [*second[:1], *asked, left[0]]}.values()
            again = [one for end in doubted for one in self._behind_another_kind(*end, beam, count)]
            scored |= self._scored(again, count)
            left = _near(_best_kinds({end: scored[end] for end in [*left, *again]}), scored, stated)
        alone = _standing_out(left, scored, stated)
        ends = [*left, *(end for end in _best_kinds(scored) if end not in left)]
        found = [Evidence(*end, scored[end]) for end in ends]
        self.stands_out = alone is not None
        found.sort(key=lambda one: (-one.images, (one.candidate, one.kind) != alone, one.score))
        return _without_copies(found, stated)

    def _behind_another_kind(
        self, best: Candidate, kind: str, beam: Sequence[str], images: int
    ) -> list["End"]:
        """The best one and its variants on another kind of images that fits clearly better, if one does."""
        left, count = list(self.kinds), min(self.few, images)
        while True:
            seen = {other: self.fingerprints.fingerprint(best, other, count) for other in left}
            left = not_clearly_worse(
                [(one, other) for other, one in seen.items()], len(seen), margin=KIND_MARGIN
            )
            if count >= images:
                break
            count = min(2 * count, images)
        own = self.fingerprints.fingerprint(best, kind, images).score if kind in self.kinds else 0.0
        nearest = left[0]
        if seen[nearest].score * CLEARLY > own:
            return []
        processing = InputProcessing(best.normalisation, split_variant(best.arch)[1].get(INPUT), nearest)
        variants = (processing.candidate(arch) for arch in [*beam, self.arch])
        return [(one, nearest) for one in dict.fromkeys([best, *variants])]

    def _scored(self, ends: Iterable["End"], images: int) -> dict["End", Fingerprint]:
        return {end: self.fingerprints.fingerprint(*end, images) for end in ends}

    def _onsets(self) -> dict[str, int | None]:
        """For every part the first batch-norm that sees another form of it."""
        processing = InputProcessing(self.normalisations[0], None, self.kinds[0])
        found: dict[str, int | None] = dict.fromkeys(self.assembly.variants)
        for layers in (LAYERS_PER_PART, None):  # most parts show in the first layers
            usual = self.fingerprints.fingerprint(*processing.end(self.arch), 2, layers)
            for part in [part for part, onset in found.items() if onset is None]:
                others = [
                    self.fingerprints.fingerprint(*processing.end(other), 2, layers)
                    for other in islice(self.fingerprints.forms(self.arch, part), 2)
                ]
                seen = [onset for other in others if (onset := _first_difference(usual, other)) is not None]
                found[part] = min(seen, default=None)
        return found


def _affordable(limits: tuple[int, int], images: float) -> int:
    return max(limits[0], min(limits[1], int(images)))


End = tuple[Candidate, str]


def _best_kinds(scored: Mapping[End, Fingerprint]) -> list[End]:
    """Each candidate on the kind of images that fits it best, of those that it has seen most images of."""
    ordered = sorted(scored, key=lambda end: (-scored[end].images, scored[end].score))
    return list({end[0]: end for end in reversed(ordered)}.values())


def _standing_out(
    left: Sequence[End], scored: Mapping[End, Fingerprint], stated: Sequence[Candidate]
) -> End | None:
    """The one of ``left``, best first, that is usual or stated, if no other comes near."""
    best = scored[left[0]]
    if len(left) == 1:
        return left[0] if best.median <= NEAR else None

    def usual(end: End) -> bool:
        return end[0] in stated or (not stated and not split_variant(end[0].arch)[1])

    # What is unusual and no better beyond chance is a near copy.
    near = [end for end in left if scored[end].score <= best.score + scored[end].error_beside(best)]
    first = next((end for end in near if usual(end)), None)
    if first is None or scored[first].median > NEAR:
        return None
    others = [end for end in left if end[0].normalisation != first[0].normalisation]
    return first if all(scored[end].score > STANDS_OUT * scored[first].score for end in others) else None


def _near(ends: Sequence[End], scored: Mapping[End, Fingerprint], stated: Sequence[Candidate]) -> list[End]:
    """Those that go on, best first; what is stated is compared with the best one, however far it is."""
    near = not_clearly_worse([(scored[end], end) for end in ends], len(ends))
    usual = min(near, key=lambda end: unusual_parts(end[0].arch))  # near copies do not crowd it out
    asked = [end for end in ends if end[0] in stated]
    return list(dict.fromkeys([*near[:RIVALS], usual, *_nearest(asked, scored)]))


def _nearest(ends: Sequence[End], scored: Mapping[End, Fingerprint]) -> list[End]:
    return sorted(ends, key=lambda end: scored[end].score)[:1]


def _first_difference(one: Fingerprint, other: Fingerprint) -> int | None:
    pairs = zip(one.divergences, other.divergences, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if abs(a - b) > 1e-6 * max(a, b)), None)


def _without_copies(scored: list[Evidence], stated: Sequence[Candidate]) -> list[Evidence]:
    """One of several that answer alike: what was stated, else the one with the fewest unusual parts."""
    found: list[Evidence] = []
    for one in scored:
        same = next((i for i, other in enumerate(found) if _copies(one, other)), None)
        if same is None:
            found.append(one)
            continue
        pair = sorted((found[same], one), key=lambda s: (s.candidate not in stated, len(s.candidate.arch)))
        found[same] = replace(pair[0], alike=(*found[same].alike, *one.alike, pair[1].candidate.arch))
    return found


def _copies(one: Evidence, other: Evidence) -> bool:
    assert one.fingerprint is not None and other.fingerprint is not None  # both were found by them
    same_processing = one.candidate.normalisation == other.candidate.normalisation and one.kind == other.kind
    return same_processing and _first_difference(one.fingerprint, other.fingerprint) is None
