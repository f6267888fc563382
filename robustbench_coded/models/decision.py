"""Weighs what the witnesses say of the ways to assemble a network. How often it errs: docs/numbers.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.fingerprint import Fingerprint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.stored_accuracy import allowed_shortfall
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.witnesses import Labelled, floor

# Scores of batch-norms: what is stated, or usual, is taken unless another is so many times better.
STATED_TIE = 2.0
TIE = 1.25

# What is stated is contradicted where another is so many times better; where labelled images agree by
# STANDARD_ERRORS, fewer times are enough.
CONTRADICTED = 3.0
CONTRADICTED_BY_BOTH = 1.5
STANDARD_ERRORS = 3.0

# Without batch-norms a stated normalisation is contradicted where another explains the labels better by so
# many, and answers no fewer rightly.
LABELS_CONTRADICT = 5.0

# Where no batch-norm sees a part, another form is taken if labelled images prefer it by so many.
LABELS_ALONE = 1.64

# A median over the batch-norms above which they are not those of this network on these images, unless the
# accuracy that the file states is confirmed.
UNFAMILIAR = 0.015
CONFIRMED = 0.02

# A score above which a guessed normalisation, or unusual variant, is another one that nobody tried. Files
# whose training mixed what no kind of images shows (manifold mixup) are farther; they have to be stated.
UNFAMILIAR_GUESS = 0.008

# The same, beside what is by chance, of a normalisation whose numbers were fitted: they can stand for what
# else images had in training and these have not.
UNFAMILIAR_FITTED = 0.002

# Beyond the 99% interval: so far below another candidate's accuracy is a contradiction.
FAR_BELOW = 0.05


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
        """Whether labelled images say so beyond chance."""
        if self.labelled is None or other.labelled is None:
            return False
        return self.labelled.worse_than(other.labelled) >= STANDARD_ERRORS

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
        normalisation: None where nobody says.
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


def chosen_among(close: Sequence[Evidence], stated: Stated) -> Evidence:
    """The one that is evaluated: the most usual of those that the witnesses do not tell from the best one.

    Args:
        close: candidates, all of which may be right; at least one.
    """
    best = min(close, key=lambda one: one.score)
    if best.fingerprint is None and best.labelled is not None:
        return min(close, key=lambda one: one.labelled.cross_entropy if one.labelled else float("inf"))
    tie = STATED_TIE if stated.arch is not None else TIE
    usual = sorted(close, key=unusual)
    same = [one for one in usual if one.score <= tie * best.score]
    # One that labelled images call worse than another of these is not taken.
    left = [one for one in same if not any(one.worse_than(other) for other in same)]
    return next(iter(left), best)


def by_labels(chosen: Evidence, forms: Sequence[Evidence]) -> Evidence:
    """``chosen``, or another form of a part that no batch-norm sees."""
    asked = [one for one in (chosen, *forms) if one.labelled is not None]
    best = min(asked, key=lambda one: one.labelled.cross_entropy if one.labelled else 0, default=chosen)
    if best.labelled is None or chosen.labelled is None:
        return chosen
    return best if chosen.labelled.worse_than(best.labelled) >= LABELS_ALONE else chosen


def unusual(one: Evidence) -> tuple[int, float]:
    """Fewer parts that are not as usual first, then what batch-norms know better."""
    return len(split_variant(one.candidate.arch)[1]), one.score


def contradictions(
    chosen: Evidence, others: Sequence[Evidence], stated: Stated, classes: int, *, few: bool = False
) -> Iterator[str]:
    """Why the network should not be believed: a clause each that ends in what to try.

    Args:
        few: whether there are so few images that only labels count, not batch-norms.
    """
    if not few:
        yield from _stated_contradicted(chosen, others, stated)
        yield from _unfamiliar(chosen, stated)
    yield from _labels_contradict(chosen, others, stated)
    yield from _inaccurate(chosen, stated, classes)
    yield from _less_accurate(chosen, others)


def _stated_contradicted(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    rivals = [one for one in others if one.fingerprint is not None and not allowed(one, stated)]
    if chosen.fingerprint is None or not rivals:
        return
    least = min(one.score for one in rivals)
    better = min((one for one in rivals if one.score <= TIE * least), key=unusual)
    assert better.fingerprint is not None
    times = chosen.score / max(better.score, 1e-12)
    if times < (CONTRADICTED_BY_BOTH if chosen.worse_than(better) else CONTRADICTED):
        return
    yield (
        f"its batch-norms contradict {chosen.candidate}, which is stated: of what they remember the network "
        f"is {chosen.fingerprint.median:.2g} away, as {better.candidate} {better.fingerprint.median:.2g}; "
        f"try {_options(better.candidate)}"
    )


def _labels_contradict(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    """Without batch-norms only labels can say that a stated normalisation is another one."""
    if chosen.fingerprint is not None or chosen.labelled is None or stated.normalisation is None:
        return
    asked = [one for one in others if one.labelled is not None]
    best = min(asked, key=lambda one: one.labelled.cross_entropy if one.labelled else 0, default=None)
    if best is None or best.labelled is None or best.labelled.right < chosen.labelled.right:
        return
    errors, ours, theirs = chosen.labelled.worse_than(best.labelled), chosen.labelled, best.labelled
    if errors >= LABELS_CONTRADICT:
        yield (
            f"its labelled images contradict {chosen.candidate}, which is stated: {best.candidate} has a "
            f"lower cross-entropy by {errors:.1f} standard errors, and answers {theirs.accuracy:.2%} of "
            f"{theirs.examples} rightly instead of {ours.accuracy:.2%}; try {_options(best.candidate)}"
        )


def _options(candidate: Candidate) -> str:
    normalisation = candidate.normalisation
    name = str(normalisation) if normalisation.name == "custom" else normalisation.name
    return f"--arch '{candidate.arch}' --normalize {name}"


def _unfamiliar(chosen: Evidence, stated: Stated) -> Iterator[str]:
    found = chosen.fingerprint
    if found is None or stated.samples or _confirmed(chosen, stated):
        return
    usual = not split_variant(chosen.candidate.arch)[1]
    guessed = stated.normalisation is None or (stated.arch is None and not usual)
    most = UNFAMILIAR_FITTED + found.by_chance if chosen.fitted else UNFAMILIAR_GUESS
    if found.median <= UNFAMILIAR and (not guessed or found.score <= most):
        return
    limit = UNFAMILIAR if found.median > UNFAMILIAR else 4 * found.median
    layer = found.departs_at(limit)
    first = f", and {layer} is the first layer beyond {limit:.2g}" if layer else ""
    yield (
        f"its batch-norms do not remember such inputs: the best assembly that is known, {chosen.candidate}, "
        f"is {found.median:.2g} away from what they stored (median){first}: a part before it is another one "
        "than in training, or the images are; try --arch package.module:function with its authors' network, "
        "--data, or --arch 'NAME[part=form]' with --normalize where these are known"
    )


def _confirmed(chosen: Evidence, stated: Stated) -> bool:
    """Whether the labelled images reach the accuracy that the file states."""
    if stated.accuracy is None or chosen.labelled is None:
        return False
    return chosen.labelled.interval()[1] >= stated.accuracy[1] and (
        chosen.labelled.accuracy >= stated.accuracy[1] - CONFIRMED
    )


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


def _inaccurate(chosen: Evidence, stated: Stated, classes: int) -> Iterator[str]:
    if chosen.labelled is None:
        return
    low, high = chosen.labelled.interval()
    measured = f"{chosen.labelled.accuracy:.1%} of {chosen.labelled.examples} labelled images are right"
    if stated.accuracy is not None and high < stated.accuracy[1] - allowed_shortfall(stated.accuracy[0]):
        name, value = stated.accuracy
        yield (
            f"{measured}, its file says {name} {value:.2%}: a part without weights is wrong, or that was on "
            "other images; try another --arch, --normalize or --data"
        )
    elif low <= 1 / classes or (chosen.fingerprint is None and high < floor(classes)):
        yield (
            f"{measured}, and chance is {1 / classes:.1%}: its weights are not trained, its labels are "
            "others, or a part without weights is wrong; try another --arch, --normalize or --data"
        )


def _less_accurate(chosen: Evidence, others: Sequence[Evidence]) -> Iterator[str]:
    """Another candidate that answers far more images rightly, whatever the batch-norms say."""
    asked = [one for one in others if one.labelled is not None]
    best = max(asked, key=lambda one: one.labelled.right if one.labelled else 0, default=None)
    if best is None or best.labelled is None or chosen.labelled is None:
        return
    if best.labelled.interval()[0] - chosen.labelled.interval()[1] > 0 and (
        best.labelled.accuracy - chosen.labelled.accuracy > FAR_BELOW
    ):
        yield (
            f"the witnesses contradict each other: as {best.candidate} it answers "
            f"{best.labelled.accuracy:.1%} rightly, as {chosen.candidate} {chosen.labelled.accuracy:.1%}; "
            f"try {_options(best.candidate)}"
        )
