"""Why a recognised network should not be believed. How often that errs: docs/recognition.md."""

from collections.abc import Iterator, Sequence

import torch

from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.decision import (
    LABELS_CONTRADICT,
    SAME_ANSWERS,
    STANDARD_ERRORS,
    TIE,
    Evidence,
    Stated,
    allowed,
    not_worse,
    unusual,
)
from robustbench_coded.models.input_kinds import HEAVY
from robustbench_coded.models.stored_accuracy import allowed_shortfall
from robustbench_coded.models.variants import split_variant
from robustbench_coded.models.witnesses import Labelled, floor

# What is stated is contradicted where another is so many times better; where labelled images agree by
# decision.STANDARD_ERRORS, fewer times are enough.
CONTRADICTED = 3.0
CONTRADICTED_BY_BOTH = 1.5

# Of right answers, so much that it matters.
MATTERS = 0.005

# A score up to which batch-norms are those of a network that was trained to the end.
FITS = 0.005

# A median over the batch-norms above which they are not those of this network on these images, unless the
# accuracy that the file states is confirmed.
UNFAMILIAR = 0.015
CONFIRMED = 0.02

# A score above which a guessed normalisation, or unusual variant, is another one that was not tried. Files
# whose training mixed what no kind of images shows (manifold mixup) are farther; they have to be stated.
UNFAMILIAR_GUESS = 0.008

# The same of an unusual variant that was not stated: what it is taken for may stand for another part that is
# not known, as reversed channels for grey images. Right ones are at 0.001 at most.
UNFAMILIAR_VARIANT = 0.004

# The same, beside what is by chance, of a normalisation whose numbers were fitted: they can stand for what
# else images had in training and these have not.
UNFAMILIAR_FITTED = 0.002

# Where more than that is left of the best score, another one that is worse by less than so many times may be
# right. It matters if the two agree on fewer than decision.SAME_ANSWERS, and labels do not call it worse.
UNDECIDED = 0.002
RIVAL = 2.0

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
    yield from _renamed(chosen)
    yield from _inaccurate(chosen, stated, classes)
    yield from _too_sure(chosen, stated)
    yield from _less_accurate(chosen, others)


def _stated_contradicted(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    rivals = [one for one in others if one.fingerprint is not None and not allowed(one, stated)]
    if chosen.fingerprint is None or not rivals:
        return
    least = min(one.score for one in rivals)
    better = min((one for one in rivals if one.score <= TIE * least), key=unusual)
    assert better.fingerprint is not None
    times = chosen.score / max(better.score, 1e-12)
    if _little_trained(chosen, better, stated, beyond=UNFAMILIAR):
        return
    labels_agree = chosen.worse_than(better) and not _little_trained(chosen, better, stated)
    if times < (CONTRADICTED_BY_BOTH if labels_agree else CONTRADICTED):
        return
    yield (
        f"its batch-norms contradict {chosen.candidate}, which is stated: activations differ from the "
        f"statistics they store by {chosen.fingerprint.median:.2g}, as {better.candidate} by "
        f"{better.fingerprint.median:.2g}; try {_options(better.candidate)}"
    )


def _little_trained(chosen: Evidence, other: Evidence, stated: Stated, beyond: float = FITS) -> bool:
    """Whether neither form fits the batch-norms and the accuracy that the file states is that of ``chosen``.

    After an epoch running statistics lag behind the weights, and differences decide nothing.

    Args:
        beyond: the score from which batch-norms are taken not to fit.
    """
    if other.fingerprint is None or other.score <= beyond or stated.accuracy is None:
        return False
    if chosen.labelled is None or other.labelled is None:
        return False
    says = stated.accuracy[1]
    both = min(chosen.labelled.examples, other.labelled.examples)
    ours, theirs = (abs(one.labelled.accuracy_of(both) - says) for one in (chosen, other) if one.labelled)
    return theirs - ours > MATTERS


def _labels_contradict(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    """Where batch-norms do not, or there are none, labels can say that what is stated is another one."""
    if chosen.labelled is None:
        return
    ours = chosen.labelled
    found = []
    for other in others:
        theirs = other.labelled
        if theirs is None or allowed(other, stated) or other.score > chosen.score:
            continue
        if _little_trained(chosen, other, stated):
            continue
        loss, fewer = ours.worse_than(theirs), ours.less_accurate_than(theirs)
        # What is usual is likelier beforehand; and an unusual form may make up for a wrong normalisation.
        more_usual = unusual(other)[0] < unusual(chosen)[0]
        if loss >= (STANDARD_ERRORS if more_usual else LABELS_CONTRADICT) and fewer >= 0:
            said = f"has a lower cross-entropy by {loss:.1f} standard errors, and answers"
        elif fewer >= LABELS_CONTRADICT and _more_right(theirs, ours) >= MATTERS:
            said = f"is more accurate by {fewer:.1f} standard errors, it answers"
        else:
            continue
        found.append((other, theirs, said))
    if found:
        # Of those that labels do not tell apart, the most usual is likely.
        likely = {id(one) for one in not_worse([other for other, *_ in found])}
        other, theirs, said = min(
            (one for one in found if id(one[0]) in likely),
            key=lambda one: (unusual(one[0])[0], one[1].cross_entropy),
        )
        both = min(ours.examples, theirs.examples)
        yield (
            f"its labelled images contradict {chosen.candidate}, which is stated: {other.candidate} {said} "
            f"{theirs.accuracy_of(both):.2%} of {both} rightly instead of {ours.accuracy_of(both):.2%}; "
            f"try {_options(other.candidate)}"
        )


def _more_right(one: Labelled, other: Labelled) -> float:
    """By how much one is more accurate than the other, on the images that both answered."""
    both = min(one.examples, other.examples)
    return one.accuracy_of(both) - other.accuracy_of(both)


def _options(candidate: Candidate) -> str:
    normalisation = candidate.normalisation
    name = str(normalisation) if normalisation.name == "custom" else normalisation.name
    return f"--arch '{candidate.arch}' --normalize {name}"


def _unfamiliar(chosen: Evidence, stated: Stated) -> Iterator[str]:
    found = chosen.fingerprint
    if found is None or stated.samples or confirmed(chosen, stated):
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
        "the stored statistics of its batch-norms do not fit these images: with the best known assembly, "
        f"{chosen.candidate}, activations differ from them by {found.median:.2g} (median){first}. A part "
        "before it, or the images, differ from training; try --arch package.module:function with its "
        "authors' network, --data, or --arch 'NAME[part=form]' with --normalize where these are known"
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
    if found is None or own is None or stated.samples or confirmed(chosen, stated):
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
            f"{1 - alike:.1%} of the images otherwise: activations differ from the stored statistics of its "
            f"batch-norms by {found.median:.2g} and {other.fingerprint.median:.2g}; say which with "
            f"{_options(chosen.candidate)}"
        )
        return


def confirmed(chosen: Evidence, stated: Stated) -> bool:
    """Whether the labelled images reach the accuracy that the file states."""
    if stated.accuracy is None or chosen.labelled is None:
        return False
    return chosen.labelled.interval()[1] >= stated.accuracy[1] and (
        chosen.labelled.accuracy >= stated.accuracy[1] - CONFIRMED
    )


def _renamed(chosen: Evidence) -> Iterator[str]:
    """Classes in another order, as of a library that sorts their names."""
    found = {} if chosen.labelled is None else chosen.labelled.renamed()
    if chosen.labelled is None or len(found) < 2:
        return
    own = chosen.labelled
    renamed = torch.tensor([found.get(number, number) for number in range(own.logits.shape[1])])
    right = float((own.logits.argmax(1) == renamed[own.labels]).double().mean())
    first = ", ".join(f"{number} by {output}" for number, output in list(found.items())[:3])
    first += ", ..." if len(found) > 3 else ""
    yield (
        f"{own.accuracy:.1%} of {own.examples} labelled images are right, and {right:.1%} would be with "
        f"{len(found)} classes in another order: it answers class {first}; "
        "save the rows of its last layer in the order of the data's classes, or choose its own --data"
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


def _too_sure(chosen: Evidence, stated: Stated) -> Iterator[str]:
    """Without batch-norms: logits that are too large by far for what the guessed network knows."""
    own = chosen.labelled
    if own is None or not chosen.too_sure or confirmed(chosen, stated):
        return
    if stated.arch is not None and stated.normalisation is not None:
        return
    yield (
        f"its logits are {own.temperature:.0f} times too large for its {own.accuracy:.1%} of right answers: "
        f"{chosen.candidate} is a guess, and another activation, normalisation or layer may be right; say "
        f"which with {_options(chosen.candidate)}, or try --arch package.module:function"
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
