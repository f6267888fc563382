"""Ways to assemble a network that labelled images explain best, where no batch-norm tells them apart."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.decision import Evidence
from robustbench_coded.models.first_layer import combinations
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.variants import changed, split_variant, unchanged
from robustbench_coded.models.witnesses import labelled

IMAGES_FOR_LABELS_ALONE = 10_000  # where no batch-norm remembers anything

# Of many candidates, each is asked so many images, or as few as that; the best go on to more.
SCREENED = 64
FEWEST_SCREENED = 16
BEST = 6
FEWER = 4  # as many candidates on so many times more images, again and again
MANY_MULTIPLICATIONS = 100e9  # for all of them; where that is too little, none is asked

# Parts that decide which pixels a layer sees. One after the other, a wrong layout would make up for a wrong
# pooling; and with another activation a wrong layout has nothing to make up for, so there are two rounds.
IN_SPACE = ("layout", "pooling")
ROUNDS = 2

CROSSED = 3  # architectures that are asked with every normalisation in common use


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


def forms_of(assembly: Assembly, one: Evidence, part: str) -> list[Evidence]:
    """The same candidate with that part in its other forms, as far as there are such networks."""
    own = one.candidate.arch
    archs = [arch for arch in variants(assembly, own, [part]) if arch != own]
    return [replace(one, candidate=replace(one.candidate, arch=arch), labelled=None) for arch in archs]


def variants(assembly: Assembly, arch: str, parts: Sequence[str]) -> list[str]:
    """``arch`` with every combination of the forms of these parts, as far as they exist."""
    archs = [arch]
    for part in parts:
        forms = [str(form) for form in assembly.variants[part]]
        archs = [
            one for arch in archs for one in (unchanged(arch, part), *(changed(arch, part, f) for f in forms))
        ]
    found = []
    for one in dict.fromkeys(archs):
        try:
            assembly.network(one)
        except InputError:
            continue
        found.append(one)
    return found


def best_by_labels(
    assembly: Assembly,
    arch: str,
    common: Sequence[Normalisation],
    rare: Sequence[Normalisation],
    labels: Tensor,
    *,
    count: int,
    cost: int,
) -> list[Evidence]:
    """The forms of a network that may come into question, each asked about ``count`` images.

    Args:
        arch: the variant to begin with; it is among them, with every common normalisation.
        common: normalisations in common use for such images.
        rare: those of other data sets.
        labels: of the images, and perhaps more.
        cost: multiplications for one image.
    """
    affordable = MANY_MULTIPLICATIONS / cost
    own = [Evidence(Candidate(arch, one)) for one in common]
    best = _screened(assembly, own, labels, affordable) or own
    space = [part for part in IN_SPACE if part in assembly.variants]
    others = [part for part in assembly.variants if part not in space]
    for _ in range(ROUNDS if assembly.variants else 0):
        before = best[0].candidate
        for parts, normalisations in ((space, [before.normalisation]), (others, common)):
            archs = variants(assembly, best[0].candidate.arch, parts) if parts else []
            tried = [Evidence(Candidate(*one)) for one in product(archs, normalisations)]
            best = _best([*best, *_screened(assembly, tried, labels, affordable)])
        if best[0].candidate == before:
            break
    unnamed = [one for one in combinations(assembly.checkpoint.channels) if one not in (*common, *rare)]
    first = dict.fromkeys([arch, best[0].candidate.arch])
    unnamed_forms = [Evidence(Candidate(*one), rare=2) for one in product(first, unnamed)]
    # Where several parts are unusual, one of them may be so by a little chance alone.
    tops = list(dict.fromkeys(one.candidate.arch for one in best))[:CROSSED]
    simpler = [unchanged(top, part) for top in tops for part in split_variant(top)[1]]
    archs = list(dict.fromkeys([arch, *simpler, *tops]))
    found = [Evidence(Candidate(*one)) for one in product(archs, common)]
    found += [Evidence(Candidate(*one), rare=1) for one in product(archs, rare)]
    found += _screened(assembly, unnamed_forms, labels, affordable)
    known = {one.candidate: one for one in best}
    return [asked(assembly, known.get(one.candidate, one), labels, count) for one in found]


def _screened(
    assembly: Assembly, tried: Sequence[Evidence], labels: Tensor, affordable: float
) -> list[Evidence]:
    """The best few of many candidates by the first images, best first.

    Args:
        affordable: images in all, over every candidate; where they are too few, none is asked.
    """
    left = list(tried)
    images = min(SCREENED, int(affordable / len(left))) if left else 0
    if images < FEWEST_SCREENED:
        return []
    while True:
        left = _best([asked(assembly, one, labels, images) for one in left], len(left))
        if images >= SCREENED * FEWER or images * FEWER > len(assembly.images):
            return left[:BEST]
        left, images = left[: max(BEST, len(left) // FEWER)], images * FEWER


def _best(found: Sequence[Evidence], most: int = BEST) -> list[Evidence]:
    """Those that explain the labels best, each once."""
    ordered = sorted(found, key=lambda one: one.labelled.cross_entropy if one.labelled else float("inf"))
    return list({one.candidate: one for one in reversed(ordered)}.values())[::-1][:most]
