"""Which way of assembling the weights reproduces what the batch-norms remember.

All combinations would be hundreds. But a batch-norm sees only what comes before it: the first one tells
normalisations and kinds of training images apart, and a part without weights changes nothing before the
batch-norm that it reaches first. So parts are tried one after the other in the order in which they take
effect, each by the layers up to the next part's, and what is clearly worse there goes no further.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, TypeVar

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.fingerprint import Fingerprint
from robustbench_coded.models.input_kinds import KINDS
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.variants import INPUT, PER_IMAGE, changed, split_variant

# Images for the first layers alone, for parts, and at the end; the latter two as many as so many
# multiplications of one candidate pay for, within these limits.
FIRST_IMAGES = 64
PART_IMAGES = (8, 32)
PART_MULTIPLICATIONS = 4e9
FINAL_IMAGES = (128, 512)
FINAL_MULTIPLICATIONS = 15e9

# So many batch-norms after the one that a part reaches first are enough to tell its forms apart.
LAYERS_PER_PART = 4

# What is so many times worse than the best goes no further. Where the best is bad itself, another part is
# wrong as well, and the comparison says less.
CLEARLY_WORSE = 4.0
CLEARLY_WORSE_THAN_BAD = 10.0
BAD = 0.02

WIDTH = 4  # candidates that are taken to the next part, and to the end
FRONTS = 4  # normalisations with kinds of images that are taken to the end

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
        self.images = _affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS / per_image)
        self._seen: dict[tuple, Fingerprint] = {}
        self.kinds: tuple[str, ...] = ()  # of training images that fit the first layers
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
            depth = min([onset + LAYERS_PER_PART, *later])
            tried = dict.fromkeys([*beam, *(other for arch in beam for other in self._forms(arch, part))])
            scored = [(self._score(arch, fronts[0], self.few, depth), arch) for arch in tried]
            beam = _kept(scored, WIDTH)
        return self._ends(beam, fronts, stated)

    def _ends(self, beam: list[str], fronts: list[Front], stated: Sequence[Candidate]) -> list[Scored]:
        """Candidates by all layers: on a few images each, and those that come close on more."""
        ends = [(fronts[0].candidate(arch), fronts[0].kind) for arch in beam]
        ends += [(front.candidate(beam[0]), front.kind) for front in fronts[1:]]
        ends += [(candidate, kind) for candidate in stated for kind in self.kinds]
        scored = {end: self._full(*end, 2 * self.few).score for end in ends}
        best = min(fronts, key=lambda front: scored[front.candidate(beam[0]), front.kind])
        for arch in beam:  # where another front turns out best, the variants are compared behind that one
            end = (best.candidate(arch), best.kind)
            scored.setdefault(end, self._full(*end, 2 * self.few).score)
        kept = _kept([(score, end) for end, score in scored.items()], WIDTH)
        found: dict[Candidate, Scored] = {}
        for candidate, kind in [*kept, *((candidate, kept[0][1]) for candidate in (*_firsts(kept), *stated))]:
            one = Scored(candidate, kind, self._full(candidate, kind, self.images))
            if candidate not in found or one.score < found[candidate].score:
                found[candidate] = one
        return _without_copies(sorted(found.values(), key=lambda one: one.score), stated)

    def _onsets(self) -> dict[str, int | None]:
        """For every part the first batch-norm that sees another form of it."""
        front = Front(self.normalisations[0], False, next(iter(KINDS)))
        usual = self._fingerprint(front.candidate(self.arch), front.kind, 4)
        found: dict[str, int | None] = {}
        for part in self.assembly.variants:
            others = [
                self._fingerprint(front.candidate(other), front.kind, 4)
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
        fronts = [Front(*one, kind) for one in known for kind in KINDS]
        scored = [(self._score(self.arch, front, FIRST_IMAGES, layers), front) for front in fronts]
        kept = _kept(scored, FRONTS)
        self.kinds = tuple(dict.fromkeys(front.kind for front in kept))
        return kept

    def _forms(self, arch: str, part: str) -> Iterator[str]:
        """The other variants in one part, as far as they exist."""
        for form in self.assembly.variants[part]:
            other = changed(arch, part, form)
            try:
                self.assembly.network(other)
            except InputError:
                continue
            yield other

    def _score(self, arch: str, front: Front, images: int, layers: int | None) -> float:
        return self._fingerprint(front.candidate(arch), front.kind, images, layers).score

    def _full(self, candidate: Candidate, kind: str, images: int) -> Fingerprint:
        return self._fingerprint(candidate, kind, images)

    def _fingerprint(
        self, candidate: Candidate, kind: str, images: int, layers: int | None = None
    ) -> Fingerprint:
        key = (candidate, kind, images, layers)
        if key not in self._seen:
            found = self.assembly.fingerprint(*key)
            assert found is not None  # all candidates have the same weights, and so the same batch-norms
            self._seen[key] = found
        return self._seen[key]


def _firsts(ends: Iterable[tuple[Candidate, str]]) -> Iterator[Candidate]:
    for candidate, _ in ends:
        yield candidate


def _affordable(limits: tuple[int, int], images: float) -> int:
    return max(limits[0], min(limits[1], int(images)))


def _kept(scored: Iterable[tuple[float, Item]], most: int) -> list[Item]:
    """The best, best first, without what is clearly worse than the first of them."""
    ordered = sorted(scored, key=lambda entry: entry[0])
    least = ordered[0][0]
    limit = least * (CLEARLY_WORSE if least < BAD else CLEARLY_WORSE_THAN_BAD)
    return [item for score, item in ordered[:most] if score <= limit]


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
