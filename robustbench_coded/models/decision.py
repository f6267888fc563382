"""Weighs what the witnesses say of the ways to assemble a network. How often it errs: docs/recognition.md."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal

from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.fingerprint import Fingerprint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.stored_accuracy import allowed_shortfall
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.witnesses import Labelled

# Scores of batch-norms: what is stated, or usual, is taken unless another is so many times better.
STATED_TIE = 2.0
TIE = 1.25

# Where the best is farther than this, an unusual variant is no better known than what it is near: what is
# usual is taken as if it were stated.
DOUBTFUL = 0.004

# A difference of cross-entropies, or of right answers, beyond chance: in standard errors, image by image.
STANDARD_ERRORS = 3.0

# A stated normalisation or variant that batch-norms do not prefer, or that has none, is contradicted where
# another explains the labels better by so many standard errors, and answers no fewer rightly; or answers more
# rightly by so many, and by so much that it matters.
LABELS_CONTRADICT = 4.0

# Forms that agree on fewer of the answers are not the same network for an evaluation.
SAME_ANSWERS = 0.95

# Without batch-norms: the best temperature above which a guessed form is not believed. Right networks have
# 0.5 to 1.5; where an unknown activation, input or layer was taken for a known one, it was 20 to 1,000.
TOO_SURE = 10.0

# Where no batch-norm sees a part, another form is taken if labelled images prefer it by so many.
LABELS_ALONE = 1.64


@dataclass(frozen=True)
class Evidence:
    """One candidate and what each witness says of it; None where that one was not asked.

    Attributes:
        kind: the kind of training images that fits its batch-norms best.
        alike: other variants that answer alike.
        fitted: whether its normalisation was found by fitting it to the first batch-norm.
    """

    candidate: Candidate
    kind: str | None = None
    fingerprint: Fingerprint | None = None
    alike: tuple[str, ...] = ()
    labelled: Labelled | None = None
    fitted: bool = False

    @property
    def score(self) -> float:
        """Of its batch-norms; 0 where it has none."""
        return 0.0 if self.fingerprint is None else self.fingerprint.score

    @property
    def images(self) -> int:
        """That its batch-norms were looked at on; 0 where it has none."""
        return 0 if self.fingerprint is None else self.fingerprint.images

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

    @property
    def too_sure(self) -> bool:
        """Whether, without batch-norms, its logits are too large by far for its right answers."""
        own = self.labelled
        return self.fingerprint is None and own is not None and own.temperature > TOO_SURE

    def same_as(self, other: "Evidence") -> bool:
        """Whether no witness tells the two apart."""
        if self.images != other.images:  # one of them was clearly worse on fewer
            return False
        scores = sorted((self.score, other.score))
        asked = self.labelled is not None and other.labelled is not None
        if self.fingerprint is None and not asked:
            return True
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


def allowed(one: Evidence, stated: Stated) -> bool:
    """Whether a candidate is what is stated, as far as anything is."""
    if stated.arch is not None and one.candidate.arch != stated.arch:
        return False
    return stated.normalisation in (None, one.candidate.normalisation)


def chosen_among(
    close: Sequence[Evidence], stated: Stated, foreign: Container[Normalisation] = ()
) -> Evidence:
    """The one that is evaluated: the most usual of those that the witnesses do not tell from the best one.

    Args:
        close: candidates, all of which may be right; at least one.
        foreign: normalisations of other data sets; where labels alone decide, they are taken only if these
            call all others worse.
    """
    best = min(close, key=lambda one: one.score)
    if best.fingerprint is None and best.labelled is not None:
        ordered = sorted(close, key=lambda one: one.labelled.cross_entropy if one.labelled else float("inf"))
        # The lowest cross-entropy decides, unless another one answers more images rightly beyond chance.
        left = not_worse(ordered)
        return next((one for one in left if one.candidate.normalisation not in foreign), left[0])
    tie = STATED_TIE if stated.arch is not None or best.score > DOUBTFUL else TIE
    usual = sorted(close, key=unusual)
    same = [one for one in usual if one.score <= tie * best.score]
    # One that labelled images call worse than another of these is not taken.
    left = [one for one in same if not any(one.worse_than(other) for other in same)]
    return next(iter(left), best)


def by_labels(chosen: Evidence, forms: Sequence[Evidence]) -> Evidence:
    """``chosen``, or another form of a part that no batch-norm sees.

    Without batch-norms that is every part, and among many forms one is always better by a little.
    """
    least = LABELS_ALONE if chosen.fingerprint is not None else STANDARD_ERRORS

    def preferred(one: Evidence) -> bool:
        if one.labelled is None or chosen.labelled is None or one.worse_than(chosen):
            return False
        return chosen.worse_than(one) or chosen.labelled.worse_than(one.labelled) >= least

    return _likeliest([one for one in forms if preferred(one)], chosen)


def clearly_better(chosen: Evidence, others: Sequence[Evidence], *, more_right: float = 0.0) -> Evidence:
    """``chosen``, or the best of those that labelled images prefer beyond chance.

    Args:
        more_right: the least that their accuracy is higher.
    """

    def better(one: Evidence) -> bool:
        if one.labelled is None or chosen.labelled is None:
            return False
        higher = one.labelled.accuracy - chosen.labelled.accuracy
        return chosen.worse_than(one) and higher >= more_right

    return _likeliest([one for one in others if better(one)], chosen)


def not_worse(found: Sequence[Evidence]) -> Sequence[Evidence]:
    """Those that labels call worse than none of the others, in their order; all where none is left."""
    return [one for one in found if not any(one.worse_than(other) for other in found)] or found


def _likeliest(preferred: Sequence[Evidence], otherwise: Evidence) -> Evidence:
    """The most usual of those that come near the lowest cross-entropy.

    What is less accurate than another is not taken, however sure it is.
    """
    left = not_worse(preferred)
    if not left:
        return otherwise
    best = min(left, key=_cross_entropy)
    near = [
        one
        for one in left
        if one.labelled and best.labelled and one.labelled.worse_than(best.labelled) < LABELS_ALONE
    ]
    usual = min(unusual(one)[0] for one in near)
    return next(one for one in sorted(near, key=_cross_entropy) if unusual(one)[0] == usual)


def _cross_entropy(one: Evidence) -> float:
    return one.labelled.cross_entropy if one.labelled is not None else 0.0


def unusual(one: Evidence) -> tuple[int, float]:
    """Fewer parts that are not as usual first, then what batch-norms know better."""
    return len(split_variant(one.candidate.arch)[1]), one.score


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
