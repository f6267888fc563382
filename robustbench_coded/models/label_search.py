"""What labelled images are asked, and what they decide where no batch-norm sees it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.decision import (
    LABELS_CONTRADICT,
    SAME_ANSWERS,
    Evidence,
    Stated,
    allowed,
    clearly_better,
    unusual,
)
from robustbench_coded.models.first_layer import combinations
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.variants import changed, split_variant, unchanged
from robustbench_coded.models.witnesses import labelled

IMAGES_FOR_LABELS_ALONE = 10_000  # where no batch-norm remembers anything

# Of many candidates, each is asked so many images, and the best few go on.
SCREENED = 64
BEST = 4
FEWER = 4  # as many candidates on so many times more images, again and again
MANY_MULTIPLICATIONS = 60e9  # for all of them; where that is too little, none is asked

# Of a great many, each is asked so many at first, and so many go on.
GLANCED = 32
GLANCED_AT_LEAST = 100

# Forms that no batch-norm sees are asked about more images while neither is worse, for so much.
APART_MULTIPLICATIONS = 200e9

# What is stated is compared with so many that are as near to what batch-norms remember, on so many images as
# long as it may be worse, in standard errors.
BESIDE = 2
BESIDE_IMAGES = 2048
MAY_BE_WORSE = 1.64

NATURAL = 3.0  # best temperatures up to that, and down to its inverse, are those of a right network
PAIRED = "activation"  # the part whose forms are tried with every normalisation where all are too many
IN_SPACE = ("layout", "pooling")  # parts that decide which pixels a layer sees
LAID_OUT = 0.6  # of right answers: below, another part may be wrong and the layout chosen for it
VISIBLY = 0.02  # more right answers that a normalisation without a name has to give


def forms_of(assembly: Assembly, chosen: Evidence, part: str) -> list[Evidence]:
    """The chosen candidate with that part in its other forms, as far as there are such networks."""
    found, own = [], chosen.candidate.arch
    archs = [unchanged(own, part), *(changed(own, part, form) for form in assembly.variants[part])]
    for arch in archs:
        if arch == own:
            continue
        candidate = replace(chosen.candidate, arch=arch)
        try:
            assembly.network(candidate.arch, rounded=chosen.fingerprint is not None)
        except InputError:
            continue
        found.append(replace(chosen, candidate=candidate, labelled=None))
    return found


def in_space(
    assembly: Assembly, chosen: Evidence, stated: Stated, labels: Tensor, count: int, cost: int
) -> list[Evidence]:
    """The best few of all layouts with all forms of pooling; none where there is no choice of both.

    One after the other, a wrong layout would make up for a wrong pooling. The other parts are those chosen.
    """
    if stated.arch is not None or not all(part in assembly.variants for part in IN_SPACE):
        return []
    own = beside_space(chosen)
    archs = [one for one in _variants(assembly, own, IN_SPACE) if one != chosen.candidate.arch]
    tried = [replace(chosen.candidate, arch=arch) for arch in archs]
    best = _screened(assembly, tried, labels, MANY_MULTIPLICATIONS / cost)
    return [asked(assembly, one, labels, count) for one in best]


def beside_space(one: Evidence) -> str:
    """Its variant with layout and pooling as usual."""
    arch = one.candidate.arch
    for part in IN_SPACE:
        arch = unchanged(arch, part)
    return arch


def asked(assembly: Assembly, one: Evidence, labels: Tensor, count: int) -> Evidence:
    """The same with what labelled images say of it; where they alone decide, in float32."""
    if one.labelled is not None and one.labelled.examples >= min(count, len(assembly.images)):
        return one
    images = assembly.images[:count].to(assembly.device)
    # Networks that sample draw the same for every candidate, whatever was asked before.
    torch.manual_seed(0 if one.labelled is None else one.labelled.examples)
    rounded = one.fingerprint is not None
    with assembly.bfloat16() if rounded else nullcontext():
        answers = assembly.answers(one.candidate, rounded=rounded)
        right = labels[: len(images)]
        found = labelled(answers, images, right, before=one.labelled, at_once=assembly.at_once)
    return replace(one, labelled=found)


def told_apart(
    assembly: Assembly, chosen: Evidence, forms: Sequence[Evidence], labels: Tensor, cost: int
) -> tuple[Evidence, list[Evidence]]:
    """``chosen`` and forms of a part that no batch-norm sees, on more images while both may be right.

    Args:
        chosen, forms: asked about the same images.
        cost: multiplications for one image.
    """
    asked_of = list(forms)
    while undecided := [one for one in asked_of if _undecided(chosen, one)]:
        assert chosen.labelled is not None
        count = min(2 * chosen.labelled.examples, len(assembly.images))
        if count == chosen.labelled.examples or count * cost * (1 + len(undecided)) > APART_MULTIPLICATIONS:
            break
        chosen = asked(assembly, chosen, labels, count)
        asked_of = [asked(assembly, one, labels, count) if one in undecided else one for one in asked_of]
    return chosen, asked_of


def _undecided(one: Evidence, other: Evidence) -> bool:
    """Whether labels do not tell two apart that answer many images otherwise."""
    if one.labelled is None or other.labelled is None or other.labelled.examples < one.labelled.examples:
        return False
    return one.labelled.agreement(other.labelled) < SAME_ANSWERS and not (
        one.worse_than(other) or other.worse_than(one)
    )


def beside_nearer(
    assembly: Assembly, chosen: Evidence, found: list[Evidence], labels: Tensor, stated: Stated
) -> tuple[Evidence, list[Evidence]]:
    """What is stated beside others that are as near to what batch-norms remember: both with more labels.

    Labels tell forms apart that batch-norms do not, as rows and columns that a shortcut leaves out.

    Args:
        chosen: what is stated, asked about labels.
    """
    nearer = [
        one
        for one in found
        if one.images == chosen.images and one.score <= chosen.score and not allowed(one, stated)
    ]
    for one in sorted(nearer, key=unusual)[:BESIDE]:
        other = one
        assert chosen.labelled is not None
        count = min(chosen.labelled.examples, BESIDE_IMAGES)
        while True:
            chosen, other = (asked(assembly, each, labels, count) for each in (chosen, other))
            assert chosen.labelled is not None and other.labelled is not None
            apart = chosen.labelled.worse_than(other.labelled)
            if not MAY_BE_WORSE < apart < LABELS_CONTRADICT or count >= min(
                BESIDE_IMAGES, len(assembly.images)
            ):
                break
            count *= 2
        found = [other if each is one else each for each in found]
    return chosen, found


def by_more_labels(
    assembly: Assembly, found: list[Evidence], labels: Tensor, stated: Stated, affordable: float
) -> list[Evidence]:
    """What labels alone have to decide, on more images: without what they call clearly worse already."""
    count = min(IMAGES_FOR_LABELS_ALONE, int(affordable))
    best = min(found, key=lambda one: one.labelled.cross_entropy if one.labelled else float("inf"))
    return [
        asked(assembly, one, labels, count) if allowed(one, stated) or not one.worse_than(best) else one
        for one in found
    ]


def among_many(
    assembly: Assembly,
    chosen: Evidence,
    normalisations: Sequence[Normalisation],
    stated: Stated,
    labels: Tensor,
    count: int,
    cost: int,
) -> list[Evidence]:
    """Without batch-norms: ``chosen``, or what labels clearly prefer among many more assemblies.

    It comes first; behind it are those that explain the labels as well, which may be right.

    Where parts are asked one after the other, a wrong form makes up for a wrong normalisation.

    Args:
        normalisations: the known ones.
        labels: of the images, and perhaps more.
        count: images that ``chosen`` was asked.
        cost: multiplications for one image.
    """
    arch = assembly.checkpoint.arch
    laid_out = [arch]
    parts = list(assembly.variants)
    if chosen.labelled is not None and chosen.labelled.accuracy >= LAID_OUT:
        # The layout is known by now: with all of them there are too many. An unusual one may have made up for
        # another part, so that the usual one is tried, too.
        parts = [part for part in parts if part != "layout"]
        layout = split_variant(chosen.candidate.arch)[1].get("layout")
        if layout is not None and stated.arch is None:
            arch = changed(arch, "layout", layout)
            laid_out.insert(0, arch)
    affordable = MANY_MULTIPLICATIONS / cost
    compared = [chosen]
    if stated.arch is None:
        choices = normalisations if stated.normalisation is None else [stated.normalisation]
        if len(laid_out) * _combinations(assembly, parts) * len(choices) * GLANCED > affordable:
            parts = [part for part in parts if part == PAIRED]
        archs = [one for base in laid_out for one in _variants(assembly, base, parts)] if parts else []
        tried = [Candidate(one, choice) for one in archs for choice in choices]
        best = _screened(assembly, _glanced(assembly, tried, labels, affordable), labels, affordable)
        compared += [asked(assembly, one, labels, count) for one in best]
        chosen = clearly_better(chosen, compared[1:])
    if stated.normalisation is None:
        # Among so many one is always better by a little.
        others = [Candidate(arch, one) for one in combinations(assembly.checkpoint.channels)]
        best = _screened(assembly, others, labels, affordable)
        chosen = clearly_better(
            chosen, [asked(assembly, one, labels, count) for one in best], more_right=VISIBLY
        )
    alike = (one for one in compared if one.candidate != chosen.candidate and chosen.same_as(one))
    return [chosen, *alike]


def less_sure(
    assembly: Assembly,
    chosen: Evidence,
    normalisations: Sequence[Normalisation],
    stated: Stated,
    labels: Tensor,
    count: int,
    cost: int,
) -> Evidence:
    """``chosen``, or where its logits are too large by far, the best form whose logits are not.

    With larger inputs nearly every activation is ReLU: such a form follows another one's answers, and its
    cross-entropy at the best temperature may be lower. What is taken must answer as many images rightly.

    Args:
        normalisations: the known ones.
        count: images that ``chosen`` was asked.
        cost: multiplications for one image.
    """
    if not chosen.too_sure or stated.arch is not None or PAIRED not in assembly.variants:
        return chosen
    choices = normalisations if stated.normalisation is None else [stated.normalisation]
    archs = _variants(assembly, chosen.candidate.arch, [PAIRED])
    tried = [Candidate(one, choice) for one in archs for choice in choices]
    left, images = [Evidence(one) for one in tried], SCREENED
    if len(left) * SCREENED * cost > MANY_MULTIPLICATIONS:
        return chosen
    while left and images < count:
        left = [asked(assembly, one, labels, images) for one in left]
        left = [one for one in left if one.labelled and one.labelled.temperature <= NATURAL]
        left.sort(key=lambda one: one.labelled.cross_entropy if one.labelled else 0.0)
        left, images = left[: max(BEST, len(left) // FEWER)], images * FEWER
    for one in left:
        one = asked(assembly, one, labels, count)
        if one.labelled is None or chosen.labelled is None:
            continue
        if not 1 / NATURAL <= one.labelled.temperature <= NATURAL:
            continue
        if one.labelled.less_accurate_than(chosen.labelled) <= MAY_BE_WORSE:
            return one
    return chosen


def _combinations(assembly: Assembly, parts: Sequence[str]) -> int:
    return prod(1 + len(assembly.variants[part]) for part in parts)


def _variants(assembly: Assembly, arch: str, parts: Sequence[str]) -> list[str]:
    """``arch`` with every combination of the forms of these parts, as far as they exist; the usual first."""
    archs = [arch]
    for part in parts:
        forms = [str(form) for form in assembly.variants[part]]
        archs = [one for arch in archs for one in (arch, *(changed(arch, part, form) for form in forms))]
    found = []
    for arch in archs:
        try:
            assembly.network(arch)
        except InputError:
            continue
        found.append(arch)
    return found


@torch.no_grad()
def _glanced(
    assembly: Assembly, candidates: Sequence[Candidate], labels: Tensor, affordable: float
) -> list[Candidate]:
    """Those that explain a few labels best, where there are too many to be screened."""
    if len(candidates) <= GLANCED_AT_LEAST or len(candidates) * GLANCED > affordable:
        return list(candidates)
    images, right = assembly.images[:GLANCED].to(assembly.device), labels[:GLANCED].to(assembly.device)
    scales = 2.0 ** torch.arange(-8, 5, device=assembly.device).view(-1, 1, 1)  # for a temperature, roughly

    def loss(one: Candidate) -> float:
        logits = assembly.answers(one)(images).nan_to_num() * scales
        chances = logits.log_softmax(2).gather(2, right.expand(len(scales), -1)[..., None])
        return float(-chances.mean(1).max())

    return sorted(candidates, key=loss)[:GLANCED_AT_LEAST]


def _screened(
    assembly: Assembly, candidates: Sequence[Candidate], labels: Tensor, affordable: float
) -> list[Evidence]:
    """The best few of many candidates by the first images.

    Args:
        affordable: images in all, over every candidate; where they are too few, none is asked.
    """
    if len(candidates) * SCREENED > affordable:
        return []
    left, images = [Evidence(one) for one in candidates], SCREENED
    while True:
        left = [asked(assembly, one, labels, images) for one in left]
        left.sort(key=lambda one: one.labelled.cross_entropy if one.labelled else 0.0)
        if len(left) <= BEST * FEWER or images * FEWER > len(assembly.images):
            return left[:BEST]
        left, images = left[: max(BEST, len(left) // FEWER)], images * FEWER
