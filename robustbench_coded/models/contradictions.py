"""Why a recognised network should not be believed. How often that errs: docs/numbers.md."""

from collections.abc import Iterator, Sequence

from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.decision import TIE, Evidence, Stated, allowed, unusual
from robustbench_coded.models.input_kinds import HEAVY
from robustbench_coded.models.stored_accuracy import allowed_shortfall
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.witnesses import floor

# What is stated is contradicted where another is so many times better; where labelled images agree by
# decision.STANDARD_ERRORS, fewer times are enough.
CONTRADICTED = 3.0
CONTRADICTED_BY_BOTH = 1.5

# Without batch-norms a stated normalisation or variant is contradicted where another explains the labels
# better by so many standard errors, and answers no fewer rightly.
LABELS_CONTRADICT = 4.0

# A median over the batch-norms above which they are not those of this network on these images, unless the
# accuracy that the file states is confirmed.
UNFAMILIAR = 0.015
CONFIRMED = 0.02

# A score above which a guessed normalisation, or unusual variant, is another one that nobody tried. Files
# whose training mixed what no kind of images shows (manifold mixup) are farther; they have to be stated.
UNFAMILIAR_GUESS = 0.008

# The same of an unusual variant that nobody stated: what it is taken for may stand for another part that is
# not known, as reversed channels for grey images. Right ones are at 0.001 at most.
UNFAMILIAR_VARIANT = 0.004

# The same, beside what is by chance, of a normalisation whose numbers were fitted: they can stand for what
# else images had in training and these have not.
UNFAMILIAR_FITTED = 0.002

# Where more than that is left of the best score, another one that is worse by less than so many times may be
# right. It matters if the two agree on fewer of the answers, and labels do not call it worse.
UNDECIDED = 0.002
RIVAL = 2.0
SAME_ANSWERS = 0.95

# Beyond the 99% interval: so far below another candidate's accuracy is a contradiction.
FAR_BELOW = 0.05


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
        yield from _hidden_by_augmentation(chosen)
        yield from _undecided(chosen, others, stated)
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
    """Without batch-norms only labels can say that a stated normalisation or variant is another one."""
    if chosen.fingerprint is not None or chosen.labelled is None:
        return
    asked = [one for one in others if one.labelled is not None and not allowed(one, stated)]
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
    most = UNFAMILIAR_GUESS if usual or stated.arch is not None else UNFAMILIAR_VARIANT
    if chosen.fitted:
        most = UNFAMILIAR_FITTED + found.by_chance
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


def _hidden_by_augmentation(chosen: Evidence) -> Iterator[str]:
    """Numbers fitted on heavily augmented images stand for what differs between augmentations."""
    if chosen.fitted and chosen.kind in HEAVY:
        yield (
            "its normalisation and its augmentation are both guessed, and one hides the other: "
            f"{chosen.candidate} was fitted on {chosen.kind} images; try --normalize with its own"
        )


def _undecided(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    """A guess that no witness prefers to another one by more than what is wrong with both."""
    found, own = chosen.fingerprint, chosen.labelled
    if found is None or own is None or stated.samples or _confirmed(chosen, stated):
        return
    if found.excess <= UNDECIDED or (stated.arch is not None and stated.normalisation is not None):
        return
    for other in others:
        if other.labelled is None or not allowed(other, stated) or other.score > RIVAL * chosen.score:
            continue
        alike = own.agreement(other.labelled)
        if other.worse_than(chosen) or alike >= SAME_ANSWERS:
            continue
        assert other.fingerprint is not None
        yield (
            f"no witness decides between {chosen.candidate} and {other.candidate}, which answer "
            f"{1 - alike:.1%} of the images otherwise: they are {found.median:.2g} and "
            f"{other.fingerprint.median:.2g} away from what its batch-norms remember; say which with "
            f"{_options(chosen.candidate)}"
        )
        return


def _confirmed(chosen: Evidence, stated: Stated) -> bool:
    """Whether the labelled images reach the accuracy that the file states."""
    if stated.accuracy is None or chosen.labelled is None:
        return False
    return chosen.labelled.interval()[1] >= stated.accuracy[1] and (
        chosen.labelled.accuracy >= stated.accuracy[1] - CONFIRMED
    )


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
