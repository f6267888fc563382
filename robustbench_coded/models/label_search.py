"""What labelled images are asked, and what they decide where no batch-norm sees it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.decision import Evidence, Stated, allowed, clearly_better
from robustbench_coded.models.first_layer import combinations
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.variants import changed
from robustbench_coded.models.witnesses import labelled

IMAGES_FOR_LABELS_ALONE = 10_000  # where no batch-norm remembers anything

# Of many candidates, each is asked so many images, and the best few go on.
SCREENED = 64
BEST = 4
MANY_MULTIPLICATIONS = 60e9  # for all of them; where that is too little, none is asked

PAIRED = "activation"  # the part whose forms are tried with every normalisation
VISIBLY = 0.02  # more right answers that a normalisation without a name has to give


def forms_of(assembly: Assembly, chosen: Evidence, part: str) -> list[Evidence]:
    """The chosen candidate with that part in its other forms, as far as there are such networks."""
    found = []
    for form in assembly.variants[part]:
        candidate = replace(chosen.candidate, arch=changed(chosen.candidate.arch, part, form))
        try:
            assembly.network(candidate.arch)
        except InputError:
            continue
        found.append(replace(chosen, candidate=candidate, labelled=None))
    return found


def asked(assembly: Assembly, one: Evidence, labels: Tensor, count: int) -> Evidence:
    """The same with what labelled images say of it; where they alone decide, in float32."""
    if one.labelled is not None and one.labelled.examples >= min(count, len(assembly.images)):
        return one
    images = assembly.images[:count].to(assembly.device)
    # Networks that sample draw the same for every candidate, whatever was asked before.
    torch.manual_seed(0 if one.labelled is None else one.labelled.examples)
    with assembly.bfloat16() if one.fingerprint is not None else nullcontext():
        found = labelled(assembly.answers(one.candidate), images, labels[: len(images)], before=one.labelled)
    return replace(one, labelled=found)


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
) -> Evidence:
    """Without batch-norms: ``chosen``, or what labels clearly prefer among many more assemblies.

    Where parts are asked one after the other, a wrong form makes up for a wrong normalisation.

    Args:
        normalisations: the known ones.
        labels: of the images, and perhaps more.
        count: images that ``chosen`` was asked.
        cost: multiplications for one image.
    """
    arch = assembly.checkpoint.arch
    if stated.arch is None and PAIRED in assembly.variants:
        choices = normalisations if stated.normalisation is None else [stated.normalisation]
        forms = forms_of(assembly, Evidence(Candidate(arch, choices[0])), PAIRED)
        pairs = [replace(one.candidate, normalisation=choice) for one in forms for choice in choices]
        best = _screened(assembly, pairs, labels, MANY_MULTIPLICATIONS / cost)
        chosen = clearly_better(chosen, [asked(assembly, one, labels, count) for one in best])
    if stated.normalisation is None:
        # Among so many one is always better by a little.
        others = [Candidate(arch, one) for one in combinations(assembly.checkpoint.channels)]
        best = _screened(assembly, others, labels, MANY_MULTIPLICATIONS / cost)
        chosen = clearly_better(
            chosen, [asked(assembly, one, labels, count) for one in best], more_right=VISIBLY
        )
    return chosen


def _screened(
    assembly: Assembly, candidates: Sequence[Candidate], labels: Tensor, affordable: float
) -> list[Evidence]:
    """The best few of many candidates by the first images.

    Args:
        affordable: images in all, over every candidate; where they are too few, none is asked.
    """
    if len(candidates) * SCREENED > affordable:
        return []
    seen = [asked(assembly, Evidence(one), labels, SCREENED) for one in candidates]
    return sorted(seen, key=lambda one: one.labelled.cross_entropy if one.labelled else 0.0)[:BEST]
