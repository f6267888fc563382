"""Which way of assembling the weights reproduces what the batch-norms remember.

All combinations would be hundreds. But a batch-norm sees only what comes before it: the first one tells
normalisations and kinds of training images apart, and a part without weights changes nothing before the
batch-norm that it reaches first. So parts are tried one after the other in the order in which they take
effect, each by the layers up to the next part's, and what is clearly worse there goes no further.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, TypeVar

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import MOST_IMAGES, Assembly, Candidate
from robustbench_coded.models.fingerprint import Fingerprint, Moments
from robustbench_coded.models.input_kinds import KINDS
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.variants import INPUT, PER_IMAGE, changed, split_variant

# Images for the first layers alone: of all, and of those that are not clearly worse.
FIRST_IMAGES = (16, 64)
FIRST_MARGIN, KIND_MARGIN = 2.0, 4.0  # where one layer alone decides, so many times what is by chance

# Images for parts and at first for whole networks; for a network that stands out; and for those that stay
# close to each other: as many as so many multiplications of one candidate pay for, within these limits.
PART_IMAGES = (16, 64)
PART_MULTIPLICATIONS = 4e9
ENOUGH_IMAGES = (64, MOST_IMAGES)
ENOUGH_MULTIPLICATIONS = 10e9
FINAL_IMAGES = (128, MOST_IMAGES)
FINAL_MULTIPLICATIONS = 15e9

# So many batch-norms after the one that a part reaches first are enough to tell its forms apart.
LAYERS_PER_PART = 4

# What is so many times worse than the best goes no further. Where the best is bad itself, another part is
# wrong as well, and the comparison says less.
CLEARLY_WORSE = 4.0
CLEARLY_WORSE_THAN_BAD = 10.0
BAD = 0.02

# A usual network stands out, and is not compared on more images, where no other is better, those with other
# normalisations are so many times worse, and it is near to what is remembered.
STANDS_OUT = 2.0
NEAR = 0.005

# Forms of one part that differ by less are as good as alike, as ReLU and ReLU6.
ALIKE = 1.2

WIDTH = 4  # candidates that are taken to the next part, and to the end
NORMALISATIONS = 4  # that are taken to the end
KINDS_TAKEN = 4  # kinds of images that are taken to the end with the first normalisation

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scored:
    """A candidate with its fingerprint on the kind of training images that fits it best.

    Attributes:
        alike: other variants that answer these images alike, as where no activation reaches relu6's bound.
    """

    candidate: Candidate
    kind: str
    fingerprint: Fingerprint
    alike: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        return self.fingerprint.score


class Front(NamedTuple):
    """What happens to images before the first layer, and which kind of images they are."""

    normalisation: Normalisation
    per_image: bool
    kind: str

    def candidate(self, arch: str) -> Candidate:
        return Candidate(changed(arch, INPUT, PER_IMAGE) if self.per_image else arch, self.normalisation)


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
        self.enough = _affordable(ENOUGH_IMAGES, ENOUGH_MULTIPLICATIONS / per_image)
        self.images = _affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS / per_image)
        self._seen: dict[tuple, Fingerprint] = {}
        self._moments: dict[tuple, Moments] = {}
        self.stands_out = False  # whether the first of those found has no rival
        self.onsets = self._onsets()

    @property
    def unseen(self) -> tuple[str, ...]:
        """Parts that no batch-norm sees, such as a pooling before the last layer."""
        return tuple(part for part, onset in self.onsets.items() if onset is None)

    def run(self, stated: Sequence[Candidate], arch: str | None = None) -> list[Scored]:
        """The candidates that come closest and those that are ``stated``, best first.

        Args:
            arch: a variant that is stated without a normalisation; it is tried behind the likely ones.
        """
        order = sorted((onset, part) for part, onset in self.onsets.items() if onset is not None)
        fronts = self._fronts(max(1, order[0][0]) if order else 2)
        if arch is not None:
            own_input = INPUT in split_variant(arch)[1]
            likely = [
                Candidate(arch, front.normalisation) for front in fronts if front.per_image == own_input
            ]
            stated = list(dict.fromkeys([*stated, *likely]))
        beam = [self.arch]
        for place, (onset, part) in enumerate(order):
            later = [other for other, _ in order[place + 1 :] if other > onset]
            beam = self._in_one_part(part, beam, fronts[0], min([onset + LAYERS_PER_PART, *later]))
        return self._ends(beam, fronts, stated)

    def _in_one_part(self, part: str, beam: list[str], front: Front, layers: int) -> list[str]:
        """The best of the ``beam`` and of its other forms in one part, by the first layers."""
        images = max(self.few, FIRST_IMAGES[-1]) if layers == 1 else self.few

        def kept(archs: Iterable[str]) -> list[str]:
            scored = {
                arch: self._fingerprint(front.candidate(arch), front.kind, images, layers) for arch in archs
            }
            left = _kept(((one, arch) for arch, one in scored.items()), len(scored))
            best = scored[left[0]]
            alike = max(ALIKE * best.score, best.score + best.by_chance / 2)
            # What is usual goes on before its near copies.
            left.sort(key=lambda arch: len(split_variant(arch)[1]) if scored[arch].score <= alike else 9)
            return left[:WIDTH]

        first = [beam[0], *self._forms(beam[0], part)]
        likely = kept(first)
        forms = {split_variant(arch)[1].get(part) for arch in likely}
        return kept(
            [
                *likely,
                *beam,
                *(other for arch in beam for other in self._forms(arch, part, forms)),
            ]
        )

    def _ends(self, beam: list[str], fronts: list[Front], stated: Sequence[Candidate]) -> list[Scored]:
        """Candidates by all layers, on more and more images: until one stands out, or there are enough."""
        usual = min(beam, key=lambda arch: len(split_variant(arch)[1]))
        ends = [(fronts[0].candidate(arch), fronts[0].kind) for arch in beam]
        ends += [(front.candidate(usual), front.kind) for front in fronts[1:]]
        scored = {end: self._fingerprint(*end, self.few) for end in ends}
        best = min(fronts, key=lambda front: scored[front.candidate(usual), front.kind].score)
        kinds = tuple(dict.fromkeys([best.kind, *(front.kind for front in fronts)]))
        # Where another front turns out best, the variants are compared behind that one.
        ends = [(best.candidate(arch), best.kind) for arch in beam]
        ends += [(candidate, kind) for candidate in stated for kind in kinds]
        scored |= {end: self._fingerprint(*end, self.few) for end in ends}
        left, count = _best_kinds(scored), self.few
        while True:
            kept = _kept([(scored[end], end) for end in left], WIDTH)
            # What is stated is compared with the best one, however far it is.
            asked = [end for end in left if end[0] in stated]
            left = list(dict.fromkeys([*kept, *_nearest(asked, scored)]))
            alone = _stands_out(left, scored, stated)
            most = min(self.enough if alone else self.images, len(self.assembly.balanced))
            if count >= most:
                break
            count = most if count >= self.enough else min(self.enough, most)
            scored |= {end: self._fingerprint(*end, count) for end in left}
        ends = [*left, *(end for end in _best_kinds(scored) if end not in left)]
        found = [Scored(*end, scored[end]) for end in ends]
        self.stands_out = alone
        found.sort(key=lambda one: (-one.fingerprint.images, one.score))
        return _without_copies(found, stated)

    def _onsets(self) -> dict[str, int | None]:
        """For every part the first batch-norm that sees another form of it."""
        front = Front(self.normalisations[0], False, next(iter(KINDS)))
        usual = self._fingerprint(front.candidate(self.arch), front.kind, 2)
        found: dict[str, int | None] = {}
        for part in self.assembly.variants:
            others = [
                self._fingerprint(front.candidate(other), front.kind, 2)
                for other in islice(self._forms(self.arch, part), 2)
            ]
            seen = [onset for other in others if (onset := _first_difference(usual, other)) is not None]
            found[part] = min(seen, default=None)
        return found

    def _fronts(self, layers: int) -> list[Front]:
        """Normalisations with kinds of images, best first by the first layers."""
        known = [(normalisation, False) for normalisation in self.normalisations]
        if self.assembly.variants:
            channels = self.assembly.checkpoint.channels
            known.append((Normalisation("none", (0.0,) * channels, (1.0,) * channels), True))
        left = [Front(*one, kind) for one in known for kind in KINDS]
        for images in FIRST_IMAGES:
            seen = [
                (self._fingerprint(one.candidate(self.arch), one.kind, images, layers), one) for one in left
            ]
            left = _kept(seen, len(left), margin=KIND_MARGIN)
        # Mixing adds to chance, so kinds of images are let off more than normalisations.
        near = _kept(seen, len(left), margin=FIRST_MARGIN)
        firsts = {front[:2]: front for front in reversed(left)}  # the best kind of each normalisation
        kinds = [front for front in left if front[:2] == left[0][:2]][:KINDS_TAKEN]
        others = [front for front in near if front is firsts[front[:2]] and front not in kinds]
        return [*kinds, *others[: NORMALISATIONS - 1]]

    def _forms(self, arch: str, part: str, among: Container[str | None] | None = None) -> Iterator[str]:
        """The other variants in one part, as far as they exist; ``among`` these forms alone."""
        for form in self.assembly.variants[part]:
            if among is not None and str(form) not in among:
                continue
            other = changed(arch, part, form)
            try:
                self.assembly.network(other)
            except InputError:
                continue
            yield other

    def _fingerprint(
        self, candidate: Candidate, kind: str, images: int, layers: int | None = None
    ) -> Fingerprint:
        """On the first ``images``; what fewer of them have shown is kept."""
        images = min(images, len(self.assembly.balanced))
        key = (candidate, kind, layers)
        if (*key, images) not in self._seen:
            moments = self._moments.setdefault(key, {})
            self._seen[*key, images] = self.assembly.fingerprint(candidate, kind, images, layers, moments)
        return self._seen[*key, images]


def _affordable(limits: tuple[int, int], images: float) -> int:
    return max(limits[0], min(limits[1], int(images)))


def _kept(scored: Iterable[tuple[Fingerprint, Item]], most: int, margin: float = 1.0) -> list[Item]:
    """The best, best first, without what is clearly worse than the first of them."""
    ordered = sorted(scored, key=lambda entry: entry[0].score)
    best = ordered[0][0]
    times = CLEARLY_WORSE if best.score - best.by_chance < BAD else CLEARLY_WORSE_THAN_BAD
    # What both owe to the small number of images is much the same: it is not multiplied.
    limit = best.score + max((times - 1) * (best.score - best.by_chance), margin * best.by_chance)
    return [item for one, item in ordered[:most] if one.score <= limit]


End = tuple[Candidate, str]


def _best_kinds(scored: Mapping[End, Fingerprint]) -> list[End]:
    """Each candidate on the kind of images that fits it best, of those that it has seen most images of."""
    ordered = sorted(scored, key=lambda end: (-scored[end].images, scored[end].score))
    return list({end[0]: end for end in reversed(ordered)}.values())


def _stands_out(left: Sequence[End], scored: Mapping[End, Fingerprint], stated: Sequence[Candidate]) -> bool:
    """Whether the first one is what is usual, or stated, and no other comes near."""
    first, _ = left[0]
    best = scored[left[0]]
    usual = first in stated or (not stated and not split_variant(first.arch)[1])
    if best.median > NEAR or not usual:
        return len(left) == 1 and best.median <= NEAR
    others = [end for end in left if end[0].normalisation != first.normalisation]
    return all(scored[end].score > STANDS_OUT * best.score for end in others)


def _nearest(ends: Sequence[End], scored: Mapping[End, Fingerprint]) -> list[End]:
    return sorted(ends, key=lambda end: scored[end].score)[:1]


def _first_difference(one: Fingerprint, other: Fingerprint) -> int | None:
    pairs = zip(one.divergences, other.divergences, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if abs(a - b) > 1e-6 * max(a, b)), None)


def _without_copies(scored: list[Scored], stated: Sequence[Candidate]) -> list[Scored]:
    """One of several that answer alike: what was stated, else the one with the fewest unusual parts."""
    found: list[Scored] = []
    for one in scored:
        same = next((i for i, other in enumerate(found) if _copies(one, other)), None)
        if same is None:
            found.append(one)
            continue
        pair = sorted((found[same], one), key=lambda s: (s.candidate not in stated, len(s.candidate.arch)))
        found[same] = replace(pair[0], alike=(*found[same].alike, *one.alike, pair[1].candidate.arch))
    return found


def _copies(one: Scored, other: Scored) -> bool:
    same_front = one.candidate.normalisation == other.candidate.normalisation and one.kind == other.kind
    return same_front and _first_difference(one.fingerprint, other.fingerprint) is None
