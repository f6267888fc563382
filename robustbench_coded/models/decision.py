"""Which of the ways to assemble a network may be right. How often it errs: docs/recognition.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.fingerprint import Fingerprint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.stored_accuracy import allowed_shortfall
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.witnesses import Labelled

# Scores of batch-norms: what is stated, or usual, is not told from another one that is less than so many
# times better.
STATED_TIE = 2.0
TIE = 1.25

# Where the best is farther than this, an unusual variant is no better known than what it is near: what is
# usual is taken as if it were stated.
DOUBTFUL = 0.004

# A difference of cross-entropies, or of right answers, beyond chance: in standard errors, image by image.
STANDARD_ERRORS = 3.0

# Labels alone do not decide between forms whose accuracies are as near as that. A network that was trained
# adversarially answers a few points more rightly behind a wrong normalisation.
NEAR = 0.05

# Without batch-norms, an unusual activation, or a normalisation without a name, is taken where so many more
# answers are right: published ReLU networks answer up to 0.4 points more with a smoother one.
VISIBLY = 0.01

# The temperatures at which right networks explain the labels best are 0.5 to 1.5 (and nearly 0 where all
# answers are right). Pixels up to 255 in place of 1, or an unknown layer taken for a known one: 20 to 1,000.
NATURAL = 10.0


@dataclass(frozen=True)
class Evidence:
    """One candidate and what each witness says of it; None where that one was not asked.

    Attributes:
        kind: the kind of training images that fits its batch-norms best.
        alike: other variants that answer alike.
        rare: 1 where its normalisation is that of another data set, 2 where it has no name.
    """

    candidate: Candidate
    kind: str | None = None
    fingerprint: Fingerprint | None = None
    alike: tuple[str, ...] = ()
    labelled: Labelled | None = None
    rare: int = 0

    @property
    def score(self) -> float:
        """Of its batch-norms; 0 where it has none."""
        return 0.0 if self.fingerprint is None else self.fingerprint.score

    @property
    def images(self) -> int:
        """That its batch-norms were looked at on; 0 where it has none."""
        return 0 if self.fingerprint is None else self.fingerprint.images

    @property
    def parts(self) -> int:
        """How many parts of its architecture are not as usual."""
        return len(split_variant(self.candidate.arch)[1])

    @property
    def unusual(self) -> int:
        """How much of it is not as usual: parts, and its normalisation."""
        return self.parts + self.rare

    @property
    def natural(self) -> bool:
        """Whether its logits are not far too large for its right answers."""
        return self.labelled is None or self.labelled.temperature <= NATURAL

    def worse_than(self, other: "Evidence") -> bool:
        """Whether labelled images say so beyond chance.

        Right answers come before the cross-entropy, which another form may lower by changing how sure a
        network is, as of one that was trained adversarially.
        """
        if self.labelled is None or other.labelled is None:
            return False
        fewer_right = self.labelled.less_accurate_than(other.labelled)
        if abs(fewer_right) >= STANDARD_ERRORS:
            return fewer_right > 0
        return self.labelled.worse_than(other.labelled) >= STANDARD_ERRORS

    def same_as(self, other: "Evidence") -> bool:
        """Whether no witness tells the two apart."""
        if self.images != other.images:  # one of them was clearly worse on fewer
            return False
        scores = sorted((self.score, other.score))
        return scores[1] <= TIE * scores[0] and not (self.worse_than(other) or other.worse_than(self))


@dataclass(frozen=True)
class Stated:
    """What the user and the file say of a network.

    Attributes:
        arch: the variant; None where only names and shapes of the weights spoke.
        normalisation: None where it is not stated.
        source: of the normalisation.
        accuracy: the file's entry and its value in [0, 1].
        samples: the network draws in every answer. It does so otherwise in training (a temperature), so
            batch-norms that are unfamiliar with its answers are no contradiction.
    """

    arch: str | None
    normalisation: Normalisation | None
    source: Literal["given", "stored", "guessed"]
    accuracy: tuple[str, float] | None
    samples: bool = False

    def allows(self, candidate: Candidate) -> bool:
        """Whether a candidate is what is stated, as far as anything is."""
        return self.arch in (None, candidate.arch) and self.normalisation in (None, candidate.normalisation)

    def applied_to(self, candidate: Candidate) -> Candidate:
        """The same with what is stated in place of what it has."""
        return Candidate(self.arch or candidate.arch, self.normalisation or candidate.normalisation)


def tied(found: Sequence[Evidence], stated: Stated) -> list[Evidence]:
    """Those that batch-norms do not tell from the best one, what is usual first.

    Args:
        found: looked at on the same images; at least one.
    """
    best = min(one.score for one in found)
    tie = STATED_TIE if stated.arch is not None or best > DOUBTFUL else TIE
    return sorted((one for one in found if one.score <= tie * best), key=lambda one: (one.unusual, one.score))


def plausible(forms: Sequence[Evidence]) -> list[Evidence]:
    """Those that may be the network, the likeliest first.

    A form may be right while its accuracy is within NEAR of the best one's. One with more unusual parts, or a
    normalisation without a name, has to be better, beyond chance, than every other that may be right: among
    many, one always is by a little.

    Args:
        forms: asked about labels, or none of them; at least one.
    """
    if any(one.labelled is None for one in forms):
        return list(forms)
    natural = [one for one in forms if one.natural] or list(forms)
    least = max(_accuracy(one) for one in natural) - NEAR
    found: list[Evidence] = []
    for one in sorted(natural, key=lambda one: (one.unusual, _cross_entropy(one))):
        usual = [other for other in found if other.parts < one.parts or other.rare < one.rare == 2]
        if _accuracy(one) >= least and all(other.worse_than(one) for other in usual):
            found.append(one)
    likeliest = found[0]
    for one in found:
        more_right = _accuracy(one) - _accuracy(likeliest)
        doubtful = one.fingerprint is None and (_only_activated_otherwise(one, likeliest) or one.rare == 2)
        if likeliest.worse_than(one) and (not doubtful or more_right >= VISIBLY):
            likeliest = one
    return [likeliest, *(one for one in found if one is not likeliest)]


def _only_activated_otherwise(one: Evidence, other: Evidence) -> bool:
    ours, theirs = (split_variant(each.candidate.arch)[1] for each in (one, other))
    return {part for part, _ in ours.items() ^ theirs.items()} == {"activation"}


def _accuracy(one: Evidence) -> float:
    return one.labelled.accuracy if one.labelled is not None else 0.0


def _cross_entropy(one: Evidence) -> float:
    return one.labelled.cross_entropy if one.labelled is not None else 0.0


def accuracy_in_doubt(chosen: Evidence, stated: Stated, classes: int) -> bool:
    """Whether only the number of images leaves open that it is chance, or too far below the stated one."""
    if chosen.labelled is None:
        return False
    if chosen.labelled.interval()[0] <= 1 / classes < chosen.labelled.accuracy:
        return True
    if stated.accuracy is None:
        return False
    least = stated.accuracy[1] - allowed_shortfall(stated.accuracy[0])
    return chosen.labelled.accuracy < least <= chosen.labelled.interval()[1]
