"""Which candidates may be right by all evidence, and what speaks against the one that is chosen.

How often it errs: docs/recognition.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from robustbench_coded.models.candidates import TIE, Candidate, Evidence
from robustbench_coded.models.labelled_accuracy import LABELS_CONTRADICT, STANDARD_ERRORS, floor
from robustbench_coded.models.metadata import allowed_shortfall
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.registry import split_variant

# Scores of batch-norms: what is stated is not told from another one that is less than so many times better.
STATED_TIE = 2.0

# Where the best is farther than this, an unusual variant is no better known than what it is near: what is
# usual is taken as if it were stated.
DOUBTFUL = 0.004

# Labels alone do not decide between forms whose accuracies are as near as that. A network that was trained
# adversarially answers a few points more rightly behind a wrong normalisation.
NEAR = 0.05

# Without batch-norms, an unusual activation is taken where so many more answers are right: published ReLU
# networks answer up to 0.4 points more with a smoother one.
VISIBLY = 0.01


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

    A form may be right while its accuracy is within NEAR of the best one's. One with more unusual parts has
    to be better, beyond chance, than every other that may be right: among many, one always is by a little.

    Args:
        forms: asked about labels, or none of them; at least one.
    """
    if any(one.labelled is None for one in forms):
        return list(forms)
    plausible_forms = [one for one in forms if one.plausible_scale] or list(forms)
    least = max(_accuracy(one) for one in plausible_forms) - NEAR
    found: list[Evidence] = []
    for one in sorted(plausible_forms, key=lambda one: (one.unusual, _cross_entropy(one))):
        usual = [other for other in found if other.parts < one.parts]
        if _accuracy(one) >= least and all(other.worse_than(one) for other in usual):
            found.append(one)
    likeliest = found[0]
    for one in found:
        more_right = _accuracy(one) - _accuracy(likeliest)
        doubtful = one.fingerprint is None and _only_activated_otherwise(one, likeliest)
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


# What is stated is contradicted where another is so many times better; where labelled images agree, fewer
# times are enough.
CONTRADICTED = 3.0
CONTRADICTED_BY_BOTH = 1.5

# The same where batch-norms do not, or there are none, by LABELS_CONTRADICT: another form explains the labels
# better, and answers no fewer rightly; or answers more rightly, and by so much that it matters.
MATTERS = 0.005

# A median over the batch-norms above which they are not those of this network on these images, unless the
# accuracy that the file states is confirmed.
UNFAMILIAR = 0.015
CONFIRMED = 0.02

# A score above which a guessed normalisation, or unusual variant, may stand for another part that is not
# known: reversed channels, or images that were cut out in training. Files whose training mixed what no kind
# of images shows (manifold mixup) are farther; they have to be stated. Right ones are at 0.0037 at most on 64
# images.
UNFAMILIAR_GUESS = 0.004

# Beyond the 99% interval: so far below another candidate's accuracy is a contradiction.
FAR_BELOW = 0.05


def contradictions(
    chosen: Evidence, others: Sequence[Evidence], stated: Stated, *, few: bool = False
) -> Iterator[str]:
    """Why the network may be another one: a clause each that ends in what to try.

    Args:
        others: further candidates, whatever is stated.
        few: whether there are so few images that only labels count, not batch-norms.
    """
    if not few:
        yield from _stated_contradicted(chosen, others, stated)
    yield from _labels_contradict(chosen, others, stated)
    yield from _renamed(chosen)
    yield from _inaccurate(chosen, stated)
    yield from _implausible_scale(chosen, stated)
    yield from _less_accurate(chosen, others)


def by_chance(chosen: Evidence, classes: int, stated: Stated) -> str | None:
    """That it answers as by chance, a clause that ends in what to try; None where it does not."""
    if chosen.labelled is None:
        return None
    low, high = chosen.labelled.interval()
    guessed = stated.arch is None or stated.normalisation is None
    if low > 1 / classes and (chosen.fingerprint or high >= floor(classes, guessed=guessed)):
        return None
    if len(chosen.labelled.renamed()) > classes / 2:
        return next(_renamed(chosen))
    return (
        f"{chosen.labelled.accuracy:.1%} of {chosen.labelled.examples} labelled images are right, and chance "
        f"is {1 / classes:.1%}: its weights are not trained, its labels are others, or a part without "
        "weights is wrong; try another --arch, --normalize or --data"
    )


def options(candidate: Candidate) -> str:
    """What states a candidate on the command line."""
    normalisation = candidate.normalisation
    name = str(normalisation) if normalisation.name == "custom" else normalisation.name
    return f"--arch '{candidate.arch}' --normalize {name}"


def _stated_contradicted(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    rivals = [one for one in others if one.fingerprint is not None and not stated.allows(one.candidate)]
    if chosen.fingerprint is None or not rivals:
        return
    better = min(
        rivals, key=lambda one: (one.score > 1.25 * min(other.score for other in rivals), one.unusual)
    )
    assert better.fingerprint is not None
    times = chosen.score / max(better.score, 1e-12)
    if times < (CONTRADICTED_BY_BOTH if chosen.worse_than(better) else CONTRADICTED):
        return
    yield (
        f"its batch-norms contradict {chosen.candidate}, which is stated: activations differ from the "
        f"statistics they store by {chosen.fingerprint.median:.2g}, as {better.candidate} by "
        f"{better.fingerprint.median:.2g}; try {options(better.candidate)}"
    )


def _labels_contradict(chosen: Evidence, others: Sequence[Evidence], stated: Stated) -> Iterator[str]:
    """Where batch-norms do not, or there are none, labels can say that what is stated is another one."""
    found = []
    for other in others:
        if chosen.labelled is None or other.labelled is None or not other.plausible_scale:
            continue
        if stated.allows(other.candidate) or other.score > chosen.score:
            continue
        loss, fewer = (
            chosen.labelled.worse_than(other.labelled),
            chosen.labelled.less_accurate_than(other.labelled),
        )
        both = min(chosen.labelled.examples, other.labelled.examples)
        ours, theirs = (one.labelled.accuracy_of(both) for one in (chosen, other) if one.labelled)
        # What is usual is likelier beforehand; and an unusual form may make up for a wrong normalisation.
        enough = STANDARD_ERRORS if other.unusual < chosen.unusual else LABELS_CONTRADICT
        if (loss >= enough and fewer >= 0) or (fewer >= LABELS_CONTRADICT and theirs - ours >= MATTERS):
            found.append((other.unusual, other.labelled.cross_entropy, other, theirs, ours, both))
    if found:
        *_, other, theirs, ours, both = min(found, key=lambda one: one[:2])
        yield (
            f"its labelled images contradict {chosen.candidate}, which is stated: {other.candidate} explains "
            f"the labels better, and answers {theirs:.2%} of {both} rightly instead of {ours:.2%}; try "
            f"{options(other.candidate)}"
        )


def unfamiliar(chosen: Evidence, stated: Stated) -> str | None:
    """That no known assembly reproduces what its batch-norms remember; None where one does."""
    found = chosen.fingerprint
    if found is None or stated.samples or confirmed(chosen, stated):
        return None
    usual = not split_variant(chosen.candidate.arch)[1]
    guessed = stated.normalisation is None or (stated.arch is None and not usual)
    if found.median <= UNFAMILIAR and (not guessed or found.score <= UNFAMILIAR_GUESS):
        return None
    limit = UNFAMILIAR if found.median > UNFAMILIAR else 4 * found.median
    layer = found.departs_at(limit)
    first = f", and {layer} is the first layer beyond {limit:.2g}" if layer else ""
    return (
        f"the stored statistics of its batch-norms do not fit these images: with {chosen.candidate} "
        f"activations differ from them by {found.median:.2g} (median){first}. A part before it, or the "
        "images, differ from training; try --arch package.module:function with its authors' network, --data, "
        "or --arch 'NAME[part=form]' with --normalize where these are known"
    )


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
    right = float((own.logits.argmax(1) == renamed[own.labels]).cpu().double().mean())
    first = ", ".join(f"{number} by {output}" for number, output in list(found.items())[:3])
    first += ", ..." if len(found) > 3 else ""
    yield (
        f"{own.accuracy:.1%} of {own.examples} labelled images are right, and {right:.1%} would be with "
        f"{len(found)} classes in another order: it answers class {first}; "
        "save the rows of its last layer in the order of the data's classes, or choose its own --data"
    )


def _inaccurate(chosen: Evidence, stated: Stated) -> Iterator[str]:
    if chosen.labelled is None or stated.accuracy is None:
        return
    name, value = stated.accuracy
    if chosen.labelled.interval()[1] < value - allowed_shortfall(name):
        yield (
            f"{chosen.labelled.accuracy:.1%} of {chosen.labelled.examples} labelled images are right, its "
            f"file says {name} {value:.2%}: a part without weights is wrong, or that was on other images; "
            "try another --arch, --normalize or --data"
        )


def _implausible_scale(chosen: Evidence, stated: Stated) -> Iterator[str]:
    """Without batch-norms: logits that are too large by far for what the network knows."""
    own = chosen.labelled
    if own is None or chosen.fingerprint is not None or chosen.plausible_scale or confirmed(chosen, stated):
        return
    yield (
        f"its logits are {own.temperature:.0f} times too large for its {own.accuracy:.1%} of right answers: "
        f"with {chosen.candidate} another activation, normalisation or layer may be right; try --arch "
        "package.module:function with its authors' network, or another --normalize"
    )


def _less_accurate(chosen: Evidence, others: Sequence[Evidence]) -> Iterator[str]:
    """Another candidate that answers far more images rightly, whatever the batch-norms say."""
    asked = [one for one in others if one.labelled is not None]
    best = max(asked, key=lambda one: one.labelled.right if one.labelled else 0, default=None)
    if best is None or best.labelled is None or chosen.labelled is None or chosen.fingerprint is None:
        return
    if best.labelled.interval()[0] - chosen.labelled.interval()[1] > 0 and (
        best.labelled.accuracy - chosen.labelled.accuracy > FAR_BELOW
    ):
        yield (
            f"the witnesses contradict each other: as {best.candidate} it answers "
            f"{best.labelled.accuracy:.1%} rightly, as {chosen.candidate} {chosen.labelled.accuracy:.1%}; "
            f"try {options(best.candidate)}"
        )
